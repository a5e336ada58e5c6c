//! How one finds what a question describes instead of naming: by looking at one after the other.

use mmrag_core::{DocumentId, Step};

use super::documents::Key;
use super::kinds::Kind;
use super::names::Name;
use super::scene::Scene;
use super::world::{COLOURS, World};

/// The steps of a search through `shown`, the documents in the order they are read in, or nothing
/// where the question describes no picture. What is looked at in vain is told too: what is seen,
/// and whether it is what is asked for. A search for one thing ends where it is found.
pub(crate) fn survey(scene: &Scene, shown: &[DocumentId]) -> Option<Vec<Step>> {
    let world = scene.world;
    let (first, said) = scene.draft.gold.first()?;
    let mut steps = match (scene.kind, *first) {
        (Kind::ImageListQ, Key::Tower { town, .. }) => towers_of(scene, shown, town),
        (Kind::ComposeTextImage, Key::Tower { town, .. }) => {
            let mut steps = towers_of(scene, shown, town);
            let found = steps.iter().position(|step| step.document == first.id(world))?;
            steps.truncate(found + 1);
            steps
        }
        (Kind::IntersectImageTable, Key::Towers(town)) => {
            let table = Step { document: first.id(world), text: said.clone() };
            std::iter::once(table).chain(roofs(scene, town)).collect()
        }
        (Kind::ComposeTableImage, Key::Beetle(beetle)) => dots(scene, beetle)?,
        _ => return None,
    };
    if scene.kind.is_two_hop() {
        let (second, text) = scene.draft.gold.get(1)?;
        steps.push(Step { document: second.id(world), text: text.clone() });
    }
    steps.retain(|step| shown.contains(&step.document));
    Some(steps)
}

/// The roofs of all towers of a town.
fn towers_of(scene: &Scene, shown: &[DocumentId], asked: Name) -> Vec<Step> {
    let of_town = |key: &&Key| matches!(key, Key::Tower { town, .. } if *town == asked);
    let keys: Vec<Key> = scene.candidates.iter().filter(of_town).copied().collect();
    let key_of = |id: &DocumentId| keys.iter().find(|key| key.id(scene.world) == *id);
    shown.iter().filter_map(key_of).map(|&key| look(scene, key)).collect()
}

/// The roofs of the towers of a town whose wall is asked for, in the order of its table.
fn roofs(scene: &Scene, town: Name) -> impl Iterator<Item = Step> {
    let (world, group) = (scene.world, scene.world.town(town));
    let rows = group.tower_rows.map(|row| group.towers[row]);
    let asked = world.tower(group.towers[0]).wall;
    let alike = rows.into_iter().filter(move |&tower| world.tower(tower).wall == asked);
    alike.map(move |tower| look(scene, Key::Tower { tower, town }))
}

/// The dots of the beetles of a list, up to the one that is asked about.
fn dots(scene: &Scene, beetle: Name) -> Option<Vec<Step>> {
    let (Key::Beetles(town), _) = *scene.draft.gold.get(1)? else { return None };
    let rows = scene.world.town(town).beetles;
    let found = rows.iter().position(|&row| row == beetle)?;
    Some(rows[..=found].iter().map(|&row| look(scene, Key::Beetle(row))).collect())
}

/// What is seen, what is asked for, and whether that is the same.
fn look(scene: &Scene, key: Key) -> Step {
    let seen = seen(scene.world, key);
    let mut gold = scene.draft.gold.iter().map(|(gold, _)| *gold);
    let asked = gold.find(|&gold| is_looked_at(gold)).map(|gold| self::seen(scene.world, gold));
    let asked = asked.expect("a question that is searched for describes a picture");
    let verdict = if seen == asked { "yes" } else { "no" };
    let text = format!("{seen}. Asked is {asked}, {verdict}.");
    Step { document: key.id(scene.world), text }
}

fn is_looked_at(key: Key) -> bool {
    matches!(key, Key::Tower { .. } | Key::Beetle(_))
}

fn seen(world: World, key: Key) -> String {
    match key {
        Key::Tower { tower, .. } => COLOURS[world.tower(tower).roof].to_owned(),
        Key::Beetle(beetle) => world.beetle(beetle).spots.to_string(),
        _ => unreachable!("only towers and beetles are looked at"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AtlasOptions, NameSplit, scene};
    use super::*;

    fn scenes(kind: Kind) -> impl Iterator<Item = Scene> {
        let options = AtlasOptions { kinds: Some(vec![kind]), ..AtlasOptions::default() };
        (0..20).map(move |index| scene(4, NameSplit::Sft, index, &options))
    }

    fn ids(scene: &Scene) -> Vec<DocumentId> {
        scene.candidates.iter().map(|key| key.id(scene.world)).collect()
    }

    #[test]
    fn a_search_reads_every_gold_document_and_some_in_vain() {
        let searched = [
            Kind::ImageListQ,
            Kind::IntersectImageTable,
            Kind::ComposeTextImage,
            Kind::ComposeTableImage,
        ];
        for kind in searched {
            let mut in_vain = 0;
            for scene in scenes(kind) {
                let steps = survey(&scene, &ids(&scene)).unwrap();
                let read = |id: &DocumentId| steps.iter().any(|step| step.document == *id);
                let gold = scene.draft.gold.iter().map(|(key, _)| key.id(scene.world));
                let gold: Vec<DocumentId> = gold.collect();
                assert!(gold.iter().all(read), "{}", scene.draft.text);
                for step in &steps {
                    let found = gold.contains(&step.document);
                    assert!(!step.text.ends_with(if found { "no." } else { "yes." }), "{step:?}");
                }
                in_vain += steps.len() - gold.len();
            }
            assert!(in_vain >= 10, "{kind:?}: {in_vain}");
        }
    }

    #[test]
    fn pictures_are_looked_at_in_the_order_they_are_shown_in() {
        for scene in scenes(Kind::ImageListQ) {
            let mut shown = ids(&scene);
            let forth = survey(&scene, &shown).unwrap();
            shown.reverse();
            let mut back = survey(&scene, &shown).unwrap();
            back.reverse();
            assert_eq!(forth, back);
            assert_eq!(forth.len(), 5);
        }
    }

    #[test]
    fn what_is_named_is_not_searched() {
        for kind in [Kind::TextQ, Kind::ImageColour, Kind::CompareText, Kind::Unanswerable] {
            assert!(scenes(kind).all(|scene| survey(&scene, &ids(&scene)).is_none()));
        }
    }
}
