//! Questions over a group: lists of pictures, intersections with a table, comparisons.

use super::documents::{Key, about, texts};
use super::names::{Name, Sort};
use super::relations::{Relation, fill};
use super::scene::Draft;
use super::single::{Author, Scenery, a_colour, colour_step, count_step, yes_no};
use super::world::{WALLS, World};

impl Author<'_> {
    /// Which towers of a town have a roof of a colour.
    pub(crate) fn image_list_question(&mut self) -> Draft {
        let town = self.any(Sort::Town);
        let towers = self.world.town(town).towers;
        let tower = self.draw.pick(&towers);
        let colour = self.colour(tower);
        let text = match self.draw.below(3) {
            0 => format!("Which turrets of {} have {} top?", town.text(), a_colour(colour)),
            1 => format!("Which {} turrets are {colour} on top?", town.text()),
            _ => format!("Name the turrets of {} with {} top.", town.text(), a_colour(colour)),
        };
        let found: Vec<Name> =
            towers.iter().copied().filter(|&tower| self.colour(tower) == colour).collect();
        let picture = |tower: &Name| Key::Tower { tower: *tower, town };
        let twins = towers.iter().filter(|tower| !found.contains(tower)).map(picture).collect();
        let mut own = about(town);
        for tower in towers {
            own.extend([Key::Chart(tower), Key::Text(tower, Relation::Builder)]);
        }
        Draft {
            text,
            answers: found.iter().map(|tower| tower.text()).collect(),
            gold: found.iter().map(|tower| (picture(tower), roof(*tower, colour))).collect(),
            twins,
            own,
            others: self.like_towers(tower, town),
        }
    }

    /// Which towers of a town's table are of one wall and have a roof of a colour.
    pub(crate) fn intersect_question(&mut self) -> Draft {
        let town = self.any(Sort::Town);
        let group = self.world.town(town);
        let towers = &group.towers[..4];
        // The first tower shares its roof with a tower of the other wall, and its wall with a
        // tower of another roof: that is how towns are made.
        let (wall, colour) = (self.world.tower(towers[0]).wall, self.colour(towers[0]));
        let of_wall: Vec<Name> = group
            .tower_rows
            .iter()
            .map(|&row| towers[row])
            .filter(|&tower| self.world.tower(tower).wall == wall)
            .collect();
        let found: Vec<Name> =
            of_wall.iter().copied().filter(|&tower| self.colour(tower) == colour).collect();
        let material = ["wooden", "brick"][wall];
        let text = match self.draw.below(2) {
            0 => format!(
                "Which {material} turrets of {} have {} top?",
                town.text(),
                a_colour(colour)
            ),
            _ => format!(
                "Name the {material} {} turrets with {} top.",
                town.text(),
                a_colour(colour)
            ),
        };
        let names: Vec<String> = of_wall.iter().map(|tower| tower.text()).collect();
        let mut gold =
            vec![(Key::Towers(town), format!("Of {} are {}.", WALLS[wall], names.join(", ")))];
        let picture = |tower: &Name| Key::Tower { tower: *tower, town };
        gold.extend(found.iter().map(|tower| (picture(tower), roof(*tower, colour))));
        let twins = towers.iter().filter(|tower| !found.contains(tower)).map(picture).collect();
        let mut own = about(town);
        own.retain(|key| *key != Key::Towers(town));
        own.extend(towers.iter().map(|&tower| Key::Text(tower, Relation::Builder)));
        let mut others = self.like_towers(towers[0], town);
        others.extend(self.others(town, 3).iter().map(|&other| Key::Towers(other)));
        Draft {
            text,
            answers: found.iter().map(|tower| tower.text()).collect(),
            gold,
            twins,
            own,
            others,
        }
    }

    /// Whether one person is older or younger than another one.
    pub(crate) fn compare_text_question(&mut self) -> Draft {
        let [a, b] = self.pair(Sort::Person, World::age);
        let older = self.world.age(a) > self.world.age(b);
        let (word, yes) = if self.draw.coin() { ("older", older) } else { ("younger", !older) };
        let text = match self.draw.below(2) {
            0 => format!("Is {} {word} than {}?", a.text(), b.text()),
            _ => format!("Of {} and {}, is the first {word}?", a.text(), b.text()),
        };
        let mut gold = [a, b]
            .map(|name| (Key::Text(name, Relation::Age), Relation::Age.step(self.world, name)));
        gold[1].1.push_str(&compared([a, b].map(|name| self.world.age(name))));
        let mut own = texts(a);
        own.extend(texts(b));
        own.retain(|key| !matches!(key, Key::Text(_, Relation::Age)));
        Draft {
            text,
            answers: vec![yes_no(yes).to_owned()],
            gold: gold.to_vec(),
            twins: Vec::new(),
            own,
            others: self.like_texts(a, Relation::Age, 8),
        }
    }

    /// Whether one beetle has more or fewer dots than another one.
    pub(crate) fn compare_image_question(&mut self) -> Draft {
        let [a, b] = self.pair(Sort::Beetle, |world, name| world.beetle(name).spots);
        let spots = |name| self.world.beetle(name).spots;
        let more = spots(a) > spots(b);
        let (word, yes) = if self.draw.coin() { ("more", more) } else { ("fewer", !more) };
        let text = match self.draw.below(2) {
            0 => format!("Has the {} bug {word} dots than the {} bug?", a.text(), b.text()),
            _ => format!("Are {word} dots on the {} bug than on the {} bug?", a.text(), b.text()),
        };
        let mut gold = [a, b].map(|name| {
            let step = fill(&count_step("dots", self.world.beetle(name).spots), &name.text(), "");
            (Key::Beetle(name), step)
        });
        gold[1].1.push_str(&compared([a, b].map(spots)));
        let mut own = about(a);
        own.extend(about(b));
        own.retain(|key| !matches!(key, Key::Beetle(_)));
        Draft {
            text,
            answers: vec![yes_no(yes).to_owned()],
            gold: gold.to_vec(),
            twins: Vec::new(),
            own,
            others: self.like_pictures(a, Scenery::Beetle),
        }
    }

    /// Two names of a sort, different in a measure.
    fn pair(&mut self, sort: Sort, measure: fn(World, Name) -> usize) -> [Name; 2] {
        loop {
            let (a, b) = (self.any(sort), self.any(sort));
            if measure(self.world, a) != measure(self.world, b) {
                return [a, b];
            }
        }
    }
}

/// The second sentence of a step: how the measures of two things compare.
fn compared([a, b]: [usize; 2]) -> String {
    let word = if a > b { "more" } else { "less" };
    format!(" Of {a} and {b} the first is {word}.")
}

fn roof(tower: Name, colour: &str) -> String {
    fill(&colour_step(Scenery::Tower, colour), &tower.text(), "")
}
