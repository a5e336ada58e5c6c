//! How one finds what a question describes instead of naming: by looking at one after the other.

use mmrag_core::{DocumentId, Step};

use super::documents::Key;
use super::kinds::Kind;
use super::names::Name;
use super::scene::Scene;
use super::world::{COLOURS, HOMES, WALLS, World};

/// The steps of a search through `shown`, the documents in the order they are read in, or nothing
/// where the question names what it asks about. What is looked at in vain is told too, in a word
/// each; a search for one thing ends where it is found.
pub(crate) fn survey(scene: &Scene, shown: &[DocumentId]) -> Option<Vec<Step>> {
    let world = scene.world;
    let (first, _) = *scene.draft.gold.first()?;
    let mut steps = match (scene.kind, first) {
        (Kind::ImageListQ, Key::Tower { town, .. }) => towers_of(scene, shown, town),
        (Kind::ComposeTextImage, Key::Tower { town, .. }) => {
            let mut steps = towers_of(scene, shown, town);
            let found = steps.iter().position(|step| step.document == first.id(world))?;
            steps.truncate(found + 1);
            steps
        }
        (Kind::IntersectImageTable, Key::Towers(town)) => walls_and_roofs(scene, town),
        (Kind::ComposeTableImage, Key::Beetle(beetle)) => dots(scene, beetle)?,
        (Kind::ComposeImageTable | Kind::ComposeTextTable, Key::Beetles(town)) => {
            vec![homes(scene, town)?]
        }
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
    shown.iter().filter_map(key_of).map(|&key| look(scene.world, key)).collect()
}

/// The walls of a town's table, then the roofs of the towers whose wall is asked for.
fn walls_and_roofs(scene: &Scene, town: Name) -> Vec<Step> {
    let (world, group) = (scene.world, scene.world.town(town));
    let rows = group.tower_rows.map(|row| group.towers[row]);
    let wall = |tower: Name| world.tower(tower).wall;
    let told = rows.map(|tower| format!("{} {}.", tower.text(), WALLS[wall(tower)]));
    let mut steps = vec![Step { document: Key::Towers(town).id(world), text: told.join(" ") }];
    let asked = wall(group.towers[0]);
    let alike = rows.into_iter().filter(|&tower| wall(tower) == asked);
    steps.extend(alike.map(|tower| look(world, Key::Tower { tower, town })));
    steps
}

/// The dots of the beetles of a list, up to the one that is asked about.
fn dots(scene: &Scene, beetle: Name) -> Option<Vec<Step>> {
    let (Key::Beetles(town), _) = *scene.draft.gold.get(1)? else { return None };
    let rows = scene.world.town(town).beetles;
    let found = rows.iter().position(|&row| row == beetle)?;
    Some(rows[..=found].iter().map(|&row| look(scene.world, Key::Beetle(row))).collect())
}

/// The homes of a town's table, up to the row that the next document is about.
fn homes(scene: &Scene, town: Name) -> Option<Step> {
    let (Key::Beetle(beetle) | Key::Text(beetle, _)) = scene.draft.gold.get(1)?.0 else {
        return None;
    };
    let rows = scene.world.town(town).beetles;
    let found = rows.iter().position(|&row| row == beetle)?;
    let home = |row: &Name| format!("{} {}.", row.text(), HOMES[scene.world.beetle(*row).home]);
    let told: Vec<String> = rows[..=found].iter().map(home).collect();
    Some(Step { document: Key::Beetles(town).id(scene.world), text: told.join(" ") })
}

fn look(world: World, key: Key) -> Step {
    let text = match key {
        Key::Tower { tower, .. } => COLOURS[world.tower(tower).roof].to_owned(),
        Key::Beetle(beetle) => world.beetle(beetle).spots.to_string(),
        _ => unreachable!("only towers and beetles are searched"),
    };
    Step { document: key.id(world), text: format!("{text}.") }
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
            Kind::ComposeImageTable,
            Kind::ComposeTextTable,
        ];
        for kind in searched {
            let mut in_vain = 0;
            for scene in scenes(kind) {
                let steps = survey(&scene, &ids(&scene)).unwrap();
                let read = |id: &DocumentId| steps.iter().any(|step| step.document == *id);
                let gold = scene.draft.gold.iter().map(|(key, _)| key.id(scene.world));
                let gold: Vec<DocumentId> = gold.collect();
                assert!(gold.iter().all(read), "{}", scene.draft.text);
                let told: usize = steps.iter().map(|step| step.text.matches('.').count()).sum();
                in_vain += told - gold.len();
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
