//! Questions that one document answers.

use super::documents::{Key, about, texts};
use super::draw::Draw;
use super::names::{Name, NameSplit, Sort};
use super::relations::{Relation, fill};
use super::scene::Draft;
use super::world::{COLOURS, SHAPES, World};

/// Draws of one question: the world, the split its names come from, and its stream.
pub(crate) struct Author<'a> {
    pub(crate) world: World,
    pub(crate) split: NameSplit,
    pub(crate) draw: &'a mut Draw,
}

/// The pictures a colour or a number is asked of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenery {
    Flag,
    Tower,
    Beetle,
}

impl Author<'_> {
    pub(crate) fn any(&mut self, sort: Sort) -> Name {
        Name::any(self.split, sort, self.draw)
    }

    /// Names of the sort of `name`, the first half of them similar to it.
    pub(crate) fn others(&mut self, name: Name, n: usize) -> Vec<Name> {
        let mut names = Vec::new();
        while names.len() < n {
            let other =
                if names.len() < n / 2 { name.similar(self.draw) } else { self.any(name.sort()) };
            if other != name && !names.contains(&other) {
                names.push(other);
            }
        }
        names
    }

    /// The same text of others, and some other texts of theirs.
    pub(crate) fn like_texts(&mut self, name: Name, relation: Relation, n: usize) -> Vec<Key> {
        let mut keys = Vec::new();
        for other in self.others(name, n) {
            keys.push(Key::Text(other, relation));
            let extra = texts(other);
            keys.push(self.draw.pick(&extra));
        }
        keys
    }

    pub(crate) fn text_question(&mut self) -> Draft {
        let sort =
            self.draw.pick(&[Sort::Person, Sort::Person, Sort::Town, Sort::Tower, Sort::Beetle]);
        let name = self.any(sort);
        let relation = self.draw.pick(Relation::of(sort));
        let gold = Key::Text(name, relation);
        let question = self.draw.pick(&relation.phrases().questions);
        let value = relation.value(self.world, name);
        let mut own = about(name);
        own.retain(|key| *key != gold);
        Draft {
            text: fill(question, &name.text(), ""),
            answers: vec![value],
            gold: vec![(gold, relation.step(self.world, name))],
            twins: Vec::new(),
            own,
            others: self.like_texts(name, relation, 8),
        }
    }

    pub(crate) fn table_question(&mut self) -> Draft {
        let town = self.any(Sort::Town);
        let group = self.world.town(town);
        let tower = self.draw.below(4) == 0;
        let name =
            if tower { group.towers[self.draw.below(4)] } else { self.draw.pick(&group.beetles) };
        let (gold, questions, value, step) = self.cell(town, name, tower);
        let mut own = about(name);
        own.extend(about(town));
        own.retain(|key| *key != gold);
        let mut others = Vec::new();
        for other in self.others(town, 4) {
            others.extend([Key::Beetles(other), Key::Market(other), Key::Towers(other)]);
        }
        for other in self.others(name, 3) {
            others.extend(texts(other));
        }
        // No other table may show the same thing.
        others.retain(|key| !self.lists(*key, name));
        let question = self.draw.pick(&questions);
        Draft {
            text: fill(question, &name.text(), ""),
            answers: vec![value.to_string()],
            gold: vec![(gold, fill(step, &name.text(), &value.to_string()))],
            twins: Vec::new(),
            own,
            others,
        }
    }

    /// A cell: its table, how to ask for it, its value and the step that tells it.
    fn cell(
        &mut self,
        town: Name,
        name: Name,
        tower: bool,
    ) -> (Key, [&'static str; 2], usize, &'static str) {
        if tower {
            let questions =
                ["How high is the {e} turret?", "How far up does the {e} turret reach?"];
            return (
                Key::Towers(town),
                questions,
                self.world.tower(name).height,
                "{e} is {v} high.",
            );
        }
        let look = self.world.beetle(name);
        match self.draw.below(3) {
            0 => {
                let questions = ["How long is the {e} bug?", "How long does the {e} bug get?"];
                (Key::Beetles(town), questions, look.length, "{e} is {v} long.")
            }
            1 => {
                let questions =
                    ["How much does the {e} bug cost?", "What must one pay for the {e} bug?"];
                (Key::Market(town), questions, look.price, "{e} costs {v}.")
            }
            _ => {
                let questions = ["How heavy is the {e} bug?", "How much does the {e} bug weigh?"];
                (Key::Market(town), questions, look.weight, "{e} weighs {v}.")
            }
        }
    }

    /// Whether a table has a row of the name.
    pub(crate) fn lists(&self, key: Key, name: Name) -> bool {
        match key {
            Key::Beetles(town) | Key::Market(town) => self.world.town(town).beetles.contains(&name),
            Key::Towers(town) => self.world.town(town).towers.contains(&name),
            _ => false,
        }
    }

    /// A picture of a sort: its document, the name asked about, and distractors around it.
    fn pictured(&mut self, scenery: Scenery) -> (Key, Name, Vec<Key>, Vec<Key>) {
        let town = self.any(Sort::Town);
        let group = self.world.town(town);
        let (key, name) = match scenery {
            Scenery::Flag => (Key::Flag(town), town),
            Scenery::Tower => {
                let tower = self.draw.pick(&group.towers);
                (Key::Tower { tower, town }, tower)
            }
            Scenery::Beetle => {
                let beetle = self.draw.pick(&group.beetles);
                (Key::Beetle(beetle), beetle)
            }
        };
        let mut own = about(name);
        match scenery {
            Scenery::Flag => own.extend(group.towers.map(|tower| Key::Tower { tower, town })),
            Scenery::Tower => own.extend([Key::Towers(town)]),
            Scenery::Beetle => own.extend([Key::Beetles(town), Key::Market(town)]),
        }
        own.retain(|other| *other != key);
        let others = self.like_pictures(name, scenery);
        (key, name, own, others)
    }

    /// Pictures of the same sort of others, with some of their texts. None is of a group that a
    /// question is about: towers are shown in other towns than `town`.
    pub(crate) fn like_towers(&mut self, name: Name, town: Name) -> Vec<Key> {
        let mut keys = self.like_pictures(name, Scenery::Tower);
        keys.retain(|key| !matches!(key, Key::Tower { town: shown, .. } if *shown == town));
        keys
    }

    /// Pictures of the same sort of others, with some of their texts.
    pub(crate) fn like_pictures(&mut self, name: Name, scenery: Scenery) -> Vec<Key> {
        let mut keys = Vec::new();
        for other in self.others(name, 7) {
            keys.push(match scenery {
                Scenery::Flag => Key::Flag(other),
                Scenery::Tower => Key::Tower { tower: other, town: self.any(Sort::Town) },
                Scenery::Beetle => Key::Beetle(other),
            });
            let extra = texts(other);
            keys.push(self.draw.pick(&extra));
        }
        keys
    }

    fn picture_draft(
        &mut self,
        scenery: Scenery,
        tell: impl FnOnce(&mut Self, Name) -> [String; 3],
    ) -> Draft {
        let (key, name, own, others) = self.pictured(scenery);
        let [text, answer, step] = tell(self, name).map(|phrase| fill(&phrase, &name.text(), ""));
        Draft {
            text,
            answers: vec![answer],
            gold: vec![(key, step)],
            twins: Vec::new(),
            own,
            others,
        }
    }

    pub(crate) fn colour_question(&mut self) -> Draft {
        let scenery = self.draw.pick(&[Scenery::Flag, Scenery::Tower, Scenery::Beetle]);
        self.picture_draft(scenery, |author, name| {
            let colour = author.colour(name);
            let part = part(scenery);
            let text = match author.draw.below(3) {
                0 => format!("What colour is the {part}?"),
                1 => format!("Which colour has the {part}?"),
                _ => format!("The {part} is of which colour?"),
            };
            [text, colour.to_owned(), colour_step(scenery, colour)]
        })
    }

    /// The colour that is asked of the picture of a name.
    pub(crate) fn colour(&self, name: Name) -> &'static str {
        COLOURS[match name.sort() {
            Sort::Tower => self.world.tower(name).roof,
            Sort::Beetle => self.world.beetle(name).shell,
            _ => self.world.flag(name).sign,
        }]
    }

    pub(crate) fn shape_question(&mut self) -> Draft {
        self.picture_draft(Scenery::Flag, |author, name| {
            let shape = SHAPES[author.world.flag(name).shape];
            let text = author.draw.pick(&[
                "Which sign is on the {e} banner?",
                "What is drawn on the {e} banner?",
                "What shape is the sign on the {e} banner?",
            ]);
            [text.to_owned(), shape.to_owned(), format!("The sign of {{e}} is a {shape}.")]
        })
    }

    pub(crate) fn number_question(&mut self) -> Draft {
        let scenery = self.draw.pick(&[Scenery::Tower, Scenery::Beetle]);
        self.picture_draft(scenery, |author, name| {
            let (things, whole, n) = match scenery {
                Scenery::Tower => ("windows", "turret", author.world.tower(name).windows),
                _ => ("dots", "bug", author.world.beetle(name).spots),
            };
            let text = match author.draw.below(3) {
                0 => format!("How many {things} has the {{e}} {whole}?"),
                1 => format!("How many {things} does the {{e}} {whole} have?"),
                _ => format!("What number of {things} has the {{e}} {whole}?"),
            };
            [text, n.to_string(), count_step(things, n)]
        })
    }

    pub(crate) fn chart_question(&mut self) -> Draft {
        let town = self.any(Sort::Town);
        let group = self.world.town(town);
        let name = match self.draw.below(3) {
            0 => town,
            1 => self.draw.pick(&group.towers),
            _ => self.draw.pick(&group.beetles),
        };
        let gold = Key::Chart(name);
        let chart = self.world.chart(name);
        let colour = COLOURS[chart.colours[chart.tallest]];
        let mut own = about(name);
        match name.sort() {
            Sort::Tower => own.extend([Key::Tower { tower: name, town }, Key::Towers(town)]),
            Sort::Beetle => own.extend([Key::Beetles(town), Key::Market(town)]),
            _ => own.extend(group.towers.map(|tower| Key::Tower { tower, town })),
        }
        own.retain(|key| *key != gold);
        let mut others = Vec::new();
        for other in self.others(name, 7) {
            let extra = about(other);
            others.extend([Key::Chart(other), self.draw.pick(&extra)]);
        }
        let text = self.draw.pick(&[
            "Which column is highest in the {e} graph?",
            "What colour is the highest column in the {e} graph?",
            "In the {e} graph, which column is highest?",
        ]);
        Draft {
            text: fill(text, &name.text(), ""),
            answers: vec![colour.to_owned()],
            gold: vec![(gold, format!("The highest column of {} is {colour}.", name.text()))],
            twins: Vec::new(),
            own,
            others,
        }
    }

    pub(crate) fn yes_no_question(&mut self) -> Draft {
        let scenery = self.draw.pick(&[Scenery::Flag, Scenery::Tower, Scenery::Beetle]);
        self.picture_draft(scenery, |author, name| {
            if scenery == Scenery::Flag {
                return author.stripes(name);
            }
            let colour = author.colour(name);
            let yes = author.draw.coin();
            let asked = if yes { colour } else { author.other_colour(colour) };
            let text = match author.draw.below(2) {
                0 => format!("Is the {} {asked}?", part(scenery)),
                _ => format!("Does the {} look {asked}?", part(scenery)),
            };
            let step = format!("{} {}", colour_step(scenery, colour), is_asked(asked));
            [text, yes_no(yes).to_owned(), step]
        })
    }

    fn stripes(&mut self, town: Name) -> [String; 3] {
        let striped = self.world.flag(town).striped;
        let text =
            self.draw.pick(&["Does the {e} banner have stripes?", "Is the {e} banner striped?"]);
        let field = if striped { "striped" } else { "plain" };
        let step = format!("The banner of {{e}} is {field}. {}", is_asked("striped"));
        [text.to_owned(), yes_no(striped).to_owned(), step]
    }

    fn other_colour(&mut self, colour: &str) -> &'static str {
        loop {
            let other = self.draw.pick(&COLOURS);
            if other != colour {
                return other;
            }
        }
    }

    pub(crate) fn choose_question(&mut self) -> Draft {
        self.picture_draft(Scenery::Tower, |author, name| {
            let side = if author.world.tower(name).tree_left { "left" } else { "right" };
            let text = author.draw.pick(&[
                "Is the tree left or right of the {e} turret?",
                "Is the tree right or left of the {e} turret?",
                "On which side of the {e} turret is the tree, left or right?",
            ]);
            [text.to_owned(), side.to_owned(), format!("The tree is {side} of {{e}}.")]
        })
    }
}

/// The part of a picture whose colour is asked, `{e}` being whose picture it is.
pub(crate) fn part(scenery: Scenery) -> &'static str {
    match scenery {
        Scenery::Flag => "sign on the {e} banner",
        Scenery::Tower => "top of the {e} turret",
        Scenery::Beetle => "back of the {e} bug",
    }
}

pub(crate) fn colour_step(scenery: Scenery, colour: &str) -> String {
    let part = match scenery {
        Scenery::Flag => "sign",
        Scenery::Tower => "top",
        Scenery::Beetle => "back",
    };
    format!("The {part} of {{e}} is {colour}.")
}

pub(crate) fn count_step(things: &str, n: usize) -> String {
    let things = if n == 1 { things.trim_end_matches('s') } else { things };
    format!("{{e}} has {n} {things}.")
}

/// A colour with its article.
pub(crate) fn a_colour(colour: &str) -> String {
    format!("{} {colour}", if colour == "orange" { "an" } else { "a" })
}

/// The second sentence of a step: what it is to be compared with.
fn is_asked(asked: &str) -> String {
    format!("Asked is {asked}.")
}

pub(crate) fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}
