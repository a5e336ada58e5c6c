//! Questions that need two documents, the second of which the question does not name.

use super::documents::{Key, about, texts};
use super::names::{Name, Sort};
use super::relations::{Relation, fill};
use super::scene::Draft;
use super::single::{Author, Scenery, colour_step, count_step};
use super::world::{HOMES, STOCKS};

/// Second-hop documents of other things: as many as the question cannot tell from the right one.
const TWINS: usize = 3;

impl Author<'_> {
    /// A person or town, a relation of it that leads to a name, and that name.
    fn first_hop(&mut self, relations: &[Relation]) -> (Name, Relation, Name) {
        loop {
            let relation = self.draw.pick(relations);
            let sort = match relation {
                Relation::Founder | Relation::Mayor => Sort::Town,
                Relation::Namesake => Sort::Beetle,
                Relation::Builder => Sort::Tower,
                _ => Sort::Person,
            };
            let name = self.any(sort);
            let target = relation.target().expect("a first hop leads to a name");
            let through = self.world.linked(name, relation, target);
            if through != name {
                return (name, relation, through);
            }
        }
    }

    pub(crate) fn text_text_question(&mut self) -> Draft {
        use Relation::{Born, Builder, Discovered, Founder, Mayor, Namesake, Teacher};
        let (name, first, through) =
            self.first_hop(&[Born, Teacher, Discovered, Founder, Mayor, Namesake, Builder]);
        let seconds: Vec<Relation> = Relation::of(through.sort())
            .iter()
            .copied()
            .filter(|&second| !matches!(second, Relation::Age | Discovered) && second != first)
            .collect();
        let second = self.draw.pick(&seconds);
        let gold = [Key::Text(name, first), Key::Text(through, second)];
        let hop = fill(first.phrases().hop, &name.text(), "");
        let text = fill(self.draw.pick(&second.phrases().questions), &hop, "");
        let text = without_doubled_noun(&text);
        let twins = self.others(through, TWINS);
        let mut own = about(name);
        own.extend(about(through));
        own.retain(|key| !gold.contains(key));
        let mut others = self.like_texts(name, first, 3);
        others.extend(twins.iter().flat_map(|&twin| about(twin)));
        others.retain(|key| !matches!(key, Key::Text(_, relation) if *relation == second));
        Draft {
            text,
            answers: vec![second.value(self.world, through)],
            gold: vec![
                (gold[0], first.step(self.world, name)),
                (gold[1], second.step(self.world, through)),
            ],
            twins: twins.iter().map(|&twin| Key::Text(twin, second)).collect(),
            own,
            others,
        }
    }

    /// The colour in the picture of what a text names.
    pub(crate) fn image_text_question(&mut self) -> Draft {
        let (name, first, through) = self.first_hop(&[Relation::Born, Relation::Discovered]);
        let (scenery, picture): (Scenery, fn(Name) -> Key) = match first {
            Relation::Born => (Scenery::Flag, Key::Flag),
            _ => (Scenery::Beetle, Key::Beetle),
        };
        let gold = [Key::Text(name, first), picture(through)];
        let hop = fill(first.phrases().hop, &name.text(), "");
        let colour = self.colour(through);
        let thing = match scenery {
            Scenery::Flag => format!("sign on the banner of {hop}"),
            _ => format!("back of {hop}"),
        };
        let text = match self.draw.below(2) {
            0 => format!("What colour is the {thing}?"),
            _ => format!("Which colour has the {thing}?"),
        };
        let twins = self.others(through, TWINS);
        let mut own = about(name);
        own.extend(about(through));
        own.retain(|key| !gold.contains(key));
        let mut others = self.like_texts(name, first, 3);
        others.extend(twins.iter().flat_map(|&twin| about(twin)));
        Draft {
            text,
            answers: vec![colour.to_owned()],
            gold: vec![
                (gold[0], first.step(self.world, name)),
                (gold[1], fill(&colour_step(scenery, colour), &through.text(), "")),
            ],
            twins: twins.iter().map(|&twin| picture(twin)).collect(),
            own,
            others,
        }
    }

    /// What is stored in the tower of a town that its roof singles out.
    pub(crate) fn text_image_question(&mut self) -> Draft {
        let town = self.any(Sort::Town);
        let towers = self.world.town(town).towers;
        let alone: Vec<Name> = towers[..4]
            .iter()
            .copied()
            .filter(|&tower| {
                towers.iter().filter(|&&t| self.colour(t) == self.colour(tower)).count() == 1
            })
            .collect();
        let tower = self.draw.pick(&alone);
        let colour = self.colour(tower);
        let text = match self.draw.below(2) {
            0 => format!("What is stored in the {} turret with the {colour} top?", town.text()),
            _ => format!("What does the turret of {} with the {colour} top hold?", town.text()),
        };
        let picture = |tower| Key::Tower { tower, town };
        let gold = [picture(tower), Key::Text(tower, Relation::Stock)];
        let rest = towers[..4].iter().filter(|&&other| other != tower);
        let twins = rest.clone().map(|&other| Key::Text(other, Relation::Stock));
        let look_alikes = rest.map(|&other| picture(other));
        let mut own = about(town);
        own.extend(towers.iter().map(|&tower| Key::Text(tower, Relation::Builder)));
        let mut others = self.like_towers(tower, town);
        others.retain(|key| !matches!(key, Key::Text(_, Relation::Stock)));
        let stock = STOCKS[self.world.tower(tower).stock];
        Draft {
            text,
            answers: vec![stock.to_owned()],
            gold: vec![
                (gold[0], fill(&colour_step(Scenery::Tower, colour), &tower.text(), "")),
                (gold[1], Relation::Stock.step(self.world, tower)),
            ],
            twins: twins.chain(look_alikes).collect(),
            own,
            others,
        }
    }

    /// How many dots the beetle of a row has.
    pub(crate) fn image_table_question(&mut self) -> Draft {
        let (town, beetle, home) = self.row();
        let spots = self.world.beetle(beetle).spots;
        let text = match self.draw.below(2) {
            0 => format!("How many dots has the {home} bug on the {} list?", town.text()),
            _ => format!("What number of dots has the {home} bug on the {} list?", town.text()),
        };
        let gold = vec![
            (Key::Beetles(town), lives(beetle, home)),
            (Key::Beetle(beetle), fill(&count_step("dots", spots), &beetle.text(), "")),
        ];
        self.listed(town, beetle, Key::Beetle, text, spots.to_string(), gold)
    }

    /// Where the beetle lives whose picture shows a number of dots.
    pub(crate) fn table_image_question(&mut self) -> Draft {
        let (town, beetle, home) = self.row();
        let spots = self.world.beetle(beetle).spots;
        let dots = if spots == 1 { "dot" } else { "dots" };
        let text = match self.draw.below(2) {
            0 => {
                format!("Where does the bug with {spots} {dots} on the {} list live?", town.text())
            }
            _ => format!("On the {} list, where lives the bug with {spots} {dots}?", town.text()),
        };
        let gold = vec![
            (Key::Beetle(beetle), fill(&count_step("dots", spots), &beetle.text(), "")),
            (Key::Beetles(town), format!("{} lives {}.", beetle.text(), at_home(home))),
        ];
        self.listed(town, beetle, Key::Beetle, text, home.to_owned(), gold)
    }

    /// What the beetle of a row eats, or after whom it is named.
    pub(crate) fn text_table_question(&mut self) -> Draft {
        let (town, beetle, home) = self.row();
        let relation = self.draw.pick(&[Relation::Food, Relation::Namesake]);
        let hop = format!("the {home} bug on the {} list", town.text());
        let text = fill(self.draw.pick(&relation.phrases().questions), &hop, "");
        let gold = vec![
            (Key::Beetles(town), lives(beetle, home)),
            (Key::Text(beetle, relation), relation.step(self.world, beetle)),
        ];
        let answer = relation.value(self.world, beetle);
        let text = without_doubled_noun(&text);
        self.listed(town, beetle, |name| Key::Text(name, relation), text, answer, gold)
    }

    fn row(&mut self) -> (Name, Name, &'static str) {
        let town = self.any(Sort::Town);
        let beetle = self.draw.pick(&self.world.town(town).beetles);
        (town, beetle, HOMES[self.world.beetle(beetle).home])
    }

    /// A question about a row of a town's beetles, its like being `document` of the other rows.
    fn listed(
        &mut self,
        town: Name,
        beetle: Name,
        document: impl Fn(Name) -> Key,
        text: String,
        answer: String,
        gold: Vec<(Key, String)>,
    ) -> Draft {
        let rows = self.world.town(town).beetles;
        let twins: Vec<Key> =
            rows.iter().filter(|&&other| other != beetle).map(|&other| document(other)).collect();
        let is_like = |key: &Key| {
            let sort = |key: &Key| match key {
                Key::Text(_, relation) => Some(*relation),
                _ => None,
            };
            std::mem::discriminant(key) == std::mem::discriminant(&twins[0])
                && sort(key) == sort(&twins[0])
        };
        let mut own = about(town);
        for row in rows {
            own.extend(about(row));
        }
        own.retain(|key| !is_like(key) && gold.iter().all(|(gold, _)| gold != key));
        let mut others = Vec::new();
        for other in self.others(town, 4) {
            others.extend([Key::Beetles(other), Key::Market(other), Key::Flag(other)]);
        }
        for other in self.others(beetle, 4) {
            others.extend(texts(other));
            others.push(Key::Beetle(other));
        }
        others.retain(|key| !is_like(key));
        Draft { text, answers: vec![answer], gold, twins, own, others }
    }
}

/// First the home, by which the row is found, then the name, to which it leads.
fn lives(beetle: Name, home: &str) -> String {
    let place = at_home(home);
    let (first, rest) = place.split_at(1);
    format!("{}{rest} lives {}.", first.to_uppercase(), beetle.text())
}

fn at_home(home: &str) -> String {
    let place = match home {
        "forest" | "desert" => "in",
        "river" => "at",
        _ => "on",
    };
    format!("{place} the {home}")
}

/// Phrases of one hop bring their noun along: "the the bug that X discovered bug" is made whole.
fn without_doubled_noun(text: &str) -> String {
    let text = text.replace("the the ", "the ");
    for (noun, tail) in [("bug", " bug"), ("turret", " turret")] {
        if text.matches(noun).count() > 1
            && let Some(at) = text.rfind(tail)
        {
            return format!("{}{}", &text[..at], &text[at + tail.len()..]);
        }
    }
    text
}
