//! Named numbers of a step, in the order they were set.

use serde_json::{Map, Number, Value};

/// Named numbers. A name is set once or overwritten; numbers that are not finite are left out when
/// written, since JSON has no word for them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(Vec<(String, f64)>);

impl Metrics {
    /// Sets a number.
    pub fn set(&mut self, name: impl Into<String>, value: f64) {
        let name = name.into();
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name, value)),
        }
    }

    /// Adds to a number, which is 0 before it is set.
    pub fn add(&mut self, name: &str, value: f64) {
        let sum = self.get(name).unwrap_or(0.0) + value;
        self.set(name, sum);
    }

    /// A number by its name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// Sets every number of `other`, with `prefix` before its name.
    pub fn extend(&mut self, prefix: &str, other: &Self) {
        for (name, value) in other.iter() {
            self.set(format!("{prefix}{name}"), value);
        }
    }

    /// Sets `NAME/mean`, `NAME/min` and `NAME/max` in TRL's spelling (`completions/mean_length`)
    /// when `name` holds a `*` for the word, else nothing if there are no values.
    pub(crate) fn spread(&mut self, name: &str, values: &[f64]) {
        if values.is_empty() {
            return;
        }
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        self.set(name.replace('*', "mean"), mean);
        self.set(name.replace('*', "min"), values.iter().copied().fold(f64::INFINITY, f64::min));
        self.set(
            name.replace('*', "max"),
            values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        );
    }

    /// All names and numbers, in the order they were first set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// One JSON object, `step` first.
    pub fn to_json(&self, step: usize) -> Value {
        let mut object = Map::new();
        object.insert("step".into(), Value::from(step));
        for (name, value) in self.iter() {
            if let Some(number) = Number::from_f64(value) {
                object.insert(name.into(), Value::Number(number));
            }
        }
        Value::Object(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_leaves_out_what_json_cannot_say() {
        let mut metrics = Metrics::default();
        metrics.set("reward", 0.5);
        metrics.set("kl", f64::NAN);
        metrics.add("hack/empty", 1.0);
        metrics.add("hack/empty", 2.0);
        metrics.spread("completions/*_length", &[1.0, 3.0]);
        assert_eq!(
            metrics.to_json(3).to_string(),
            r#"{"step":3,"reward":0.5,"hack/empty":3.0,"completions/mean_length":2.0,"completions/min_length":1.0,"completions/max_length":3.0}"#
        );
    }
}
