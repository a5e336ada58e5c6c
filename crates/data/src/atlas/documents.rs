//! The documents of the fictional world, and the sentences that describe its pictures.

use std::sync::Arc;

use mmrag_core::{Content, Document, DocumentId, ImageSource, Table};

use super::draw::{Draw, digest, hex};
use super::names::{Name, Sort};
use super::picture::{self, Canvas};
use super::relations::{Relation, fill};
use super::world::{COLOURS, HOMES, SHAPES, WALLS, World};

/// Which document of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    Text(Name, Relation),
    /// Lengths and homes of a town's beetles.
    Beetles(Name),
    /// Prices and weights of a town's beetles.
    Market(Name),
    /// Heights and walls of a town's towers.
    Towers(Name),
    Flag(Name),
    Chart(Name),
    Tower {
        tower: Name,
        town: Name,
    },
    Beetle(Name),
}

impl Key {
    /// The document's id: a hash, so that nothing can be read off it.
    pub(crate) fn id(self, world: World) -> DocumentId {
        let (kind, a, b) = match self {
            Self::Text(name, relation) => (0, name.code(), relation as u64),
            Self::Beetles(town) => (1, town.code(), 0),
            Self::Market(town) => (2, town.code(), 0),
            Self::Towers(town) => (3, town.code(), 0),
            Self::Flag(town) => (4, town.code(), 0),
            Self::Chart(name) => (5, name.code(), 0),
            Self::Tower { tower, town } => (6, tower.code(), town.code()),
            Self::Beetle(beetle) => (7, beetle.code(), 0),
        };
        DocumentId::new(hex(&digest("atlas-id", &[world.seed, kind, a, b]), 16))
    }

    /// Whether the document is a picture.
    pub(crate) fn is_picture(self) -> bool {
        matches!(self, Self::Flag(_) | Self::Chart(_) | Self::Tower { .. } | Self::Beetle(_))
    }

    /// The document.
    pub(crate) fn document(self, world: World) -> Arc<Document> {
        let content = match self.canvas(world) {
            Some(canvas) => Content::Image(ImageSource::Bytes(canvas.png().into())),
            None => self.words(world),
        };
        Arc::new(Document { id: self.id(world), title: self.title(), content })
    }

    /// The document's title; of a picture, the caption: a name and what it is, nothing more.
    pub(crate) fn title(self) -> String {
        match self {
            Self::Text(name, _) => name.text(),
            Self::Beetles(town) => format!("{} beetles", town.text()),
            Self::Market(town) => format!("{} market", town.text()),
            Self::Towers(town) => format!("{} towers", town.text()),
            Self::Flag(town) => format!("{} flag", town.text()),
            Self::Chart(name) => format!("{} chart", name.text()),
            Self::Tower { tower, town } => format!("{} tower in {}", tower.text(), town.text()),
            Self::Beetle(beetle) => format!("{} beetle", beetle.text()),
        }
    }

    /// The content of a text or table; of a picture, an empty text.
    pub(crate) fn words(self, world: World) -> Content {
        match self {
            Self::Text(name, relation) => Content::Text(sentence(world, name, relation)),
            Self::Beetles(town) => Content::Table(beetles(world, town)),
            Self::Market(town) => Content::Table(market(world, town)),
            Self::Towers(town) => Content::Table(towers(world, town)),
            _ => Content::Text(String::new()),
        }
    }

    /// One short sentence that tells all that can be asked of a picture.
    pub(crate) fn description(self, world: World, draw: &mut Draw) -> String {
        match self {
            Self::Flag(town) => {
                let flag = world.flag(town);
                let field = if flag.striped { "striped" } else { "plain" };
                let (sign, shape) = (COLOURS[flag.sign], SHAPES[flag.shape]);
                format!("a {sign} {shape} on a {field} {} flag", COLOURS[flag.field])
            }
            Self::Chart(name) => {
                let chart = world.chart(name);
                let [left, middle, right] = chart.colours.map(|colour| COLOURS[colour]);
                let tallest = COLOURS[chart.colours[chart.tallest]];
                format!("a chart of {left}, {middle} and {right}; {tallest} is tallest")
            }
            Self::Tower { tower, .. } => {
                let look = world.tower(tower);
                let side = if look.tree_left { "left" } else { "right" };
                let (roof, n) = (COLOURS[look.roof], look.windows);
                let windows = if n == 1 { "window" } else { "windows" };
                format!("a tower with a {roof} top and {n} {windows}, a tree on the {side}")
            }
            Self::Beetle(beetle) => {
                let look = world.beetle(beetle);
                let dots = if look.spots == 1 { "dot" } else { "dots" };
                let (shell, n) = (COLOURS[look.shell], look.spots);
                if draw.coin() {
                    format!("a {shell} bug with {n} {dots}")
                } else {
                    format!("a bug with {n} {dots} on its {shell} back")
                }
            }
            _ => String::new(),
        }
    }

    /// The picture; none of a text or table.
    pub(crate) fn canvas(self, world: World) -> Option<Canvas> {
        if !self.is_picture() {
            return None;
        }
        let id = self.id(world);
        let number = u64::from_str_radix(&id.as_str()[..16], 16).expect("an id is hexadecimal");
        let mut draw = Draw::new("atlas-picture", &[world.seed, number]);
        match self {
            Self::Flag(town) => Some(picture::flag(world.flag(town), &mut draw)),
            Self::Chart(name) => Some(picture::chart(world.chart(name), &mut draw)),
            Self::Tower { tower, .. } => Some(picture::tower(world.tower(tower), &mut draw)),
            Self::Beetle(beetle) => Some(picture::beetle(world.beetle(beetle), &mut draw)),
            _ => None,
        }
    }
}

/// The texts about a thing.
pub(crate) fn texts(name: Name) -> Vec<Key> {
    Relation::of(name.sort()).iter().map(|&relation| Key::Text(name, relation)).collect()
}

/// The texts and pictures that carry a name, and a town's tables.
pub(crate) fn about(name: Name) -> Vec<Key> {
    let mut keys = texts(name);
    match name.sort() {
        Sort::Person => {}
        Sort::Town => keys.extend([
            Key::Flag(name),
            Key::Chart(name),
            Key::Beetles(name),
            Key::Market(name),
            Key::Towers(name),
        ]),
        Sort::Tower => keys.push(Key::Chart(name)),
        Sort::Beetle => keys.extend([Key::Chart(name), Key::Beetle(name)]),
    }
    keys
}

fn sentence(world: World, name: Name, relation: Relation) -> String {
    let phrases = relation.phrases();
    let mut draw = Draw::new("atlas-phrase", &[world.seed, name.code(), relation as u64]);
    fill(draw.pick(&phrases.documents), &name.text(), &relation.value(world, name))
}

fn table(header: [&str; 3], rows: impl Iterator<Item = [String; 3]>) -> Table {
    Table {
        name: String::new(),
        header: header.map(str::to_owned).to_vec(),
        rows: rows.map(Vec::from).collect(),
    }
}

fn beetles(world: World, town: Name) -> Table {
    let rows = world.town(town).beetles.map(|name| {
        let look = world.beetle(name);
        [name.text(), look.length.to_string(), HOMES[look.home].to_owned()]
    });
    table(["beetle", "length", "home"], rows.into_iter())
}

fn market(world: World, town: Name) -> Table {
    let group = world.town(town);
    let rows = group.market_rows.map(|row| {
        let look = world.beetle(group.beetles[row]);
        [group.beetles[row].text(), look.price.to_string(), look.weight.to_string()]
    });
    table(["beetle", "price", "weight"], rows.into_iter())
}

fn towers(world: World, town: Name) -> Table {
    let group = world.town(town);
    let rows = group.tower_rows.map(|row| {
        let look = world.tower(group.towers[row]);
        [group.towers[row].text(), look.height.to_string(), WALLS[look.wall].to_owned()]
    });
    table(["tower", "height", "wall"], rows.into_iter())
}
