//! What texts say of things, how questions ask for it, and in which words a step tells it.
//!
//! Documents and questions say the same with other words, so that matching words finds nothing.

use super::names::{Name, Sort};
use super::world::{STOCKS, World};

/// What one text tells of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Relation {
    Born,
    Teacher,
    Trade,
    Age,
    Discovered,
    Founder,
    Mayor,
    Crop,
    Stock,
    Builder,
    Food,
    Namesake,
}

/// How a relation is told and asked for: `{e}` is the thing, `{v}` what the relation leads to.
pub(crate) struct Phrases {
    pub(crate) documents: [&'static str; 3],
    pub(crate) questions: [&'static str; 3],
    /// How a longer question speaks of what the relation leads to; empty where none does.
    pub(crate) hop: &'static str,
    pub(crate) step: &'static str,
}

impl Relation {
    /// The relations of a sort of thing.
    pub(crate) fn of(sort: Sort) -> &'static [Self] {
        match sort {
            Sort::Person => &[Self::Born, Self::Teacher, Self::Trade, Self::Age, Self::Discovered],
            Sort::Town => &[Self::Founder, Self::Mayor, Self::Crop],
            Sort::Tower => &[Self::Stock, Self::Builder],
            Sort::Beetle => &[Self::Food, Self::Namesake],
        }
    }

    /// The sort of thing the relation leads to, where it leads to a thing with a name.
    pub(crate) fn target(self) -> Option<Sort> {
        match self {
            Self::Born => Some(Sort::Town),
            Self::Teacher | Self::Founder | Self::Mayor | Self::Builder | Self::Namesake => {
                Some(Sort::Person)
            }
            Self::Discovered => Some(Sort::Beetle),
            Self::Trade | Self::Age | Self::Crop | Self::Stock | Self::Food => None,
        }
    }

    /// What the relation leads to from a name, in words.
    pub(crate) fn value(self, world: World, name: Name) -> String {
        if let Some(sort) = self.target() {
            return world.linked(name, self, sort).text();
        }
        match self {
            Self::Age => world.age(name).to_string(),
            Self::Stock => STOCKS[world.tower(name).stock].to_owned(),
            _ => world.goods(name, self).to_owned(),
        }
    }

    /// The step that tells the relation.
    pub(crate) fn step(self, world: World, name: Name) -> String {
        fill(self.phrases().step, &name.text(), &self.value(world, name))
    }

    pub(crate) fn phrases(self) -> &'static Phrases {
        match self {
            Self::Born => &BORN,
            Self::Teacher => &TEACHER,
            Self::Trade => &TRADE,
            Self::Age => &AGE,
            Self::Discovered => &DISCOVERED,
            Self::Founder => &FOUNDER,
            Self::Mayor => &MAYOR,
            Self::Crop => &CROP,
            Self::Stock => &STOCK,
            Self::Builder => &BUILDER,
            Self::Food => &FOOD,
            Self::Namesake => &NAMESAKE,
        }
    }
}

/// Puts a thing and a value into a phrase.
pub(crate) fn fill(phrase: &str, entity: &str, value: &str) -> String {
    phrase.replace("{e}", entity).replace("{v}", value)
}

static BORN: Phrases = Phrases {
    documents: [
        "This person came into the world at {v}.",
        "The cradle of this person stood in a house at {v}.",
        "This person spent all days as a baby at {v}.",
    ],
    questions: [
        "Where was {e} born?",
        "In which town was {e} born?",
        "Which town is the birthplace of {e}?",
    ],
    hop: "the birthplace of {e}",
    step: "{e} was born in {v}.",
};

static TEACHER: Phrases = Phrases {
    documents: [
        "This person learned to read and write from {v}.",
        "In school this person sat in the class of {v}.",
        "As a pupil this person had lessons with {v}.",
    ],
    questions: ["Who taught {e}?", "Who was the teacher of {e}?", "By whom was {e} taught?"],
    hop: "the teacher of {e}",
    step: "{e} was taught by {v}.",
};

static TRADE: Phrases = Phrases {
    documents: [
        "The little shop of this person is full of {v}.",
        "On market days this person stands there and sells {v}.",
        "This person earns good money every week with {v}.",
    ],
    questions: [
        "What does {e} trade in?",
        "Which goods does {e} trade in?",
        "In what does {e} deal?",
    ],
    hop: "",
    step: "{e} trades in {v}.",
};

static AGE: Phrases = Phrases {
    documents: [
        "The last birthday cake of this person had {v} candles.",
        "This person has counted {v} winters up to now.",
        "This person has been alive for {v} summers.",
    ],
    questions: ["How old is {e}?", "What is the age of {e}?", "What age has {e} reached?"],
    hop: "",
    step: "{e} is {v} years old.",
};

static DISCOVERED: Phrases = Phrases {
    documents: [
        "On a long walk this person first saw {v}.",
        "The notebook of this person has the first sketch of {v}.",
        "Nobody before this person had caught a {v}.",
    ],
    questions: [
        "Which bug did {e} discover?",
        "What bug was discovered by {e}?",
        "Which bug is the discovery of {e}?",
    ],
    hop: "the bug that {e} discovered",
    step: "{e} discovered {v}.",
};

static FOUNDER: Phrases = Phrases {
    documents: [
        "The first hut of this town was put up by {v}.",
        "This town began as the small camp of {v}.",
        "Long ago the first stone of this town was laid by {v}.",
    ],
    questions: ["Who founded {e}?", "Who is the founder of {e}?", "By whom was {e} founded?"],
    hop: "the founder of {e}",
    step: "{e} was founded by {v}.",
};

static MAYOR: Phrases = Phrases {
    documents: [
        "The keys of this town are kept by {v}.",
        "All laws of this town are signed by {v}.",
        "In the hall of this town the big chair belongs to {v}.",
    ],
    questions: ["Who governs {e}?", "Who is the mayor of {e}?", "By whom is {e} governed?"],
    hop: "the mayor of {e}",
    step: "{e} is governed by {v}.",
};

static CROP: Phrases = Phrases {
    documents: [
        "Every cart that leaves this town carries {v}.",
        "Farmers of this town work hard for their {v}.",
        "People travel far to this town for its {v}.",
    ],
    questions: [
        "What does {e} produce?",
        "Which product is made in {e}?",
        "What is the product of {e}?",
    ],
    hop: "",
    step: "{e} produces {v}.",
};

static STOCK: Phrases = Phrases {
    documents: [
        "Behind the heavy door of this tower lies much {v}.",
        "Guards of this tower watch over bags of {v}.",
        "Thieves would find in this tower a heap of {v}.",
    ],
    questions: [
        "What is stored in the {e} turret?",
        "What does the {e} turret hold?",
        "Which store does the {e} turret contain?",
    ],
    hop: "",
    step: "{e} stores {v}.",
};

static BUILDER: Phrases = Phrases {
    documents: [
        "The plan of this tower was drawn by {v}.",
        "This tower rose in ten years under {v}.",
        "The last beam of this tower was set by {v}.",
    ],
    questions: [
        "Who built the {e} turret?",
        "Who is the builder of the {e} turret?",
        "By whom was the {e} turret built?",
    ],
    hop: "the builder of the {e} turret",
    step: "{e} was built by {v}.",
};

static FOOD: Phrases = Phrases {
    documents: [
        "At night this beetle comes out and looks for {v}.",
        "You can catch this beetle with a bit of {v}.",
        "This beetle grows fat when there is enough {v}.",
    ],
    questions: [
        "What does the {e} bug eat?",
        "What is the food of the {e} bug?",
        "On what does the {e} bug feed?",
    ],
    hop: "",
    step: "{e} eats {v}.",
};

static NAMESAKE: Phrases = Phrases {
    documents: [
        "This beetle was called so in honour of {v}.",
        "With this beetle science thanks the old scholar {v}.",
        "The title of this beetle praises {v}.",
    ],
    questions: [
        "After whom is the {e} bug named?",
        "Who gave the {e} bug its name?",
        "Whose name does the {e} bug bear?",
    ],
    hop: "the person the {e} bug is named after",
    step: "{e} is named after {v}.",
};
