//! The facts of the fictional world: pure functions of a seed and a name.

use super::draw::{Draw, digest};
use super::names::{Name, Sort};
use super::relations::Relation;

/// The colours pictures are drawn in.
pub const COLOURS: [&str; 8] =
    ["red", "blue", "green", "yellow", "purple", "orange", "black", "white"];
/// The figures on flags.
pub const SHAPES: [&str; 6] = ["circle", "square", "triangle", "star", "cross", "ring"];
/// What people trade, towns produce and beetles eat.
pub const GOODS: [&str; 12] = [
    "bread", "honey", "cheese", "figs", "tea", "oil", "corn", "nuts", "fish", "rice", "milk",
    "wine",
];
/// What towers store: some of the goods, so that the kind of thing asked for tells no answer.
pub const STOCKS: [&str; 4] = ["honey", "oil", "corn", "wine"];
/// Where beetles live.
pub const HOMES: [&str; 4] = ["forest", "river", "desert", "hill"];
/// What towers are made of.
pub const WALLS: [&str; 2] = ["wood", "brick"];

/// A flag: a figure on a plain or striped field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Flag {
    pub(crate) field: usize,
    pub(crate) sign: usize,
    pub(crate) shape: usize,
    pub(crate) striped: bool,
}

/// A tower: its look, what is stored in it, and its row in a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tower {
    pub(crate) roof: usize,
    pub(crate) windows: usize,
    pub(crate) tree_left: bool,
    pub(crate) stock: usize,
    pub(crate) wall: usize,
    pub(crate) height: usize,
}

/// A beetle: its look and its rows in tables.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Beetle {
    pub(crate) shell: usize,
    pub(crate) spots: usize,
    pub(crate) home: usize,
    pub(crate) length: usize,
    pub(crate) price: usize,
    pub(crate) weight: usize,
}

/// A chart of three bars from left to right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Chart {
    pub(crate) colours: [usize; 3],
    pub(crate) tallest: usize,
}

/// What belongs to a town. The first four towers stand in its table and store different things;
/// the roof of `unique` is like no other one; the beetles differ in home and number of spots.
#[derive(Clone, Debug)]
pub(crate) struct Town {
    pub(crate) towers: [Name; 5],
    pub(crate) tower_rows: [usize; 4],
    pub(crate) beetles: [Name; 4],
    pub(crate) market_rows: [usize; 4],
}

/// One fictional world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
}

impl World {
    pub(crate) fn flag(self, town: Name) -> Flag {
        let numbers = self.numbers(town, "atlas-flag");
        let field = numbers[0] % 8;
        let sign = (field + 1 + numbers[1] % 7) % 8;
        Flag { field, sign, shape: numbers[2] % 6, striped: numbers[3].is_multiple_of(2) }
    }

    pub(crate) fn tower(self, tower: Name) -> Tower {
        let numbers = self.numbers(tower, "atlas-tower");
        Tower {
            roof: numbers[0] % 8,
            windows: 1 + numbers[1] % 6,
            tree_left: numbers[2].is_multiple_of(2),
            stock: numbers[3] % 4,
            wall: numbers[4] % 2,
            height: 10 + numbers[5] % 90,
        }
    }

    pub(crate) fn beetle(self, beetle: Name) -> Beetle {
        let numbers = self.numbers(beetle, "atlas-beetle");
        Beetle {
            shell: numbers[0] % 8,
            spots: 1 + numbers[1] % 6,
            home: numbers[2] % 4,
            length: 10 + numbers[3] % 90,
            price: 10 + numbers[4] % 90,
            weight: 10 + numbers[5] % 90,
        }
    }

    pub(crate) fn chart(self, name: Name) -> Chart {
        let mut draw = Draw::new("atlas-chart", &[self.seed, name.code()]);
        let mut colours: Vec<usize> = (0..8).collect();
        draw.shuffle(&mut colours);
        Chart { colours: [colours[0], colours[1], colours[2]], tallest: draw.below(3) }
    }

    pub(crate) fn age(self, person: Name) -> usize {
        10 + self.numbers(person, "atlas-age")[0] % 90
    }

    /// The thing a relation leads to from a name.
    pub(crate) fn linked(self, name: Name, relation: Relation, sort: Sort) -> Name {
        let bytes = digest("atlas-link", &[self.seed, name.code(), relation as u64]);
        let number = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes are eight"));
        let found = Name::nth(name.split(), sort, number);
        if found == name { Name::nth(name.split(), sort, number + 1) } else { found }
    }

    /// The goods of a relation of a name.
    pub(crate) fn goods(self, name: Name, relation: Relation) -> &'static str {
        let bytes = digest("atlas-goods", &[self.seed, name.code(), relation as u64]);
        GOODS[usize::from(u16::from_le_bytes([bytes[0], bytes[1]])) % GOODS.len()]
    }

    pub(crate) fn town(self, town: Name) -> Town {
        let mut draw = Draw::new("atlas-town", &[self.seed, town.code()]);
        let towers = self.towers_of(town, &mut draw);
        let beetles = self.beetles_of(town, &mut draw);
        let mut tower_rows = [0, 1, 2, 3];
        let mut market_rows = [0, 1, 2, 3];
        draw.shuffle(&mut tower_rows);
        draw.shuffle(&mut market_rows);
        Town { towers, tower_rows, beetles, market_rows }
    }

    /// Two or three of the roofs have one colour, and of these one or two are of one wall, so
    /// that lists of one to three answers and intersections exist in every town.
    fn towers_of(self, town: Name, draw: &mut Draw) -> [Name; 5] {
        let mut colours: Vec<usize> = (0..8).collect();
        draw.shuffle(&mut colours);
        let wall = draw.below(2);
        let (roofs, walls) = if draw.coin() {
            ([0, 0, 1, 2, 3], [Some(wall), Some(1 - wall), Some(wall), None, None])
        } else {
            ([0, 0, 0, 1, 2], [Some(wall), Some(wall), Some(1 - wall), Some(wall), None])
        };
        let mut towers: Vec<Name> = Vec::new();
        let mut stocks: Vec<usize> = Vec::new();
        while towers.len() < 5 {
            let at = towers.len();
            let name = Name::any(town.split(), Sort::Tower, draw);
            let look = self.tower(name);
            let fits = look.roof == colours[roofs[at]]
                && walls[at].is_none_or(|wall| wall == look.wall)
                && (at == 4 || !stocks.contains(&look.stock));
            if fits && !towers.contains(&name) {
                towers.push(name);
                stocks.push(look.stock);
            }
        }
        towers.try_into().expect("the loop ends at five towers")
    }

    fn beetles_of(self, town: Name, draw: &mut Draw) -> [Name; 4] {
        let mut beetles: Vec<Name> = Vec::new();
        while beetles.len() < 4 {
            let name = Name::any(town.split(), Sort::Beetle, draw);
            let look = self.beetle(name);
            let differs = |other: &Name| {
                let other = self.beetle(*other);
                other.home != look.home && other.spots != look.spots
            };
            if beetles.iter().all(differs) {
                beetles.push(name);
            }
        }
        beetles.try_into().expect("the loop ends at four beetles")
    }

    fn numbers(self, name: Name, purpose: &str) -> [usize; 8] {
        let bytes = digest(purpose, &[self.seed, name.code()]);
        std::array::from_fn(|i| {
            let at = 4 * i;
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
        })
    }
}
