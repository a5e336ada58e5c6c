//! Walks over large JSON files part by part: what is not asked for is passed over, and no more than
//! one part is ever made into values.

use std::borrow::Cow;

use memchr::{memchr_iter, memchr2};
use serde::de::DeserializeOwned;

/// A member of an object or an item of a list.
pub(crate) struct Part<'f> {
    /// The member's name; empty of an item.
    pub(crate) key: Cow<'f, str>,
    /// The value as it stands in the file.
    pub(crate) value: &'f [u8],
    /// The line the value begins in, counted from 1.
    pub(crate) line: usize,
}

/// What is wrong at a line of the file.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl<'f> Part<'f> {
    /// The value in a type of ours.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        serde_json::from_slice(self.value).map_err(|error| {
            let text = error.to_string();
            let what = text.rfind(" at line ").map_or(&*text, |at| &text[..at]);
            Fault { line: self.line + error.line().saturating_sub(1), what: what.to_owned() }
        })
    }

    /// The value in a type of ours that is an object; a list would be taken for its members too.
    pub(crate) fn object<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        if self.value.first() != Some(&b'{') {
            return Err(self.fault("it is no object"));
        }
        self.read()
    }

    /// The parts of the value.
    pub(crate) fn parts(&self) -> Result<Parts<'f>, Fault> {
        Parts::of(self.value, self.line)
    }

    /// Whether the value is `null`.
    pub(crate) fn is_null(&self) -> bool {
        self.value == b"null"
    }

    pub(crate) fn fault(&self, what: impl Into<String>) -> Fault {
        Fault { line: self.line, what: what.into() }
    }
}

/// The parts of one object or list, in the file's order. After a fault there are no more.
pub(crate) struct Parts<'f> {
    bytes: &'f [u8],
    at: usize,
    /// How far lines were counted, and the line there.
    counted: (usize, usize),
    is_object: bool,
    is_first: bool,
    is_done: bool,
}

impl<'f> Parts<'f> {
    /// The parts of the value that these bytes are; `line` is the one it begins in.
    pub(crate) fn of(bytes: &'f [u8], line: usize) -> Result<Self, Fault> {
        let mut parts = Self {
            bytes,
            at: 0,
            counted: (0, line),
            is_object: false,
            is_first: true,
            is_done: false,
        };
        parts.skip_blank();
        match parts.bytes.get(parts.at) {
            Some(b'{') => parts.is_object = true,
            Some(b'[') => {}
            Some(_) => return Err(parts.fault("no object or list begins here")),
            None => return Err(parts.fault("there is nothing, where an object or list should be")),
        }
        parts.at += 1;
        Ok(parts)
    }

    /// Whether the value is an object rather than a list.
    pub(crate) fn is_object(&self) -> bool {
        self.is_object
    }

    /// How far the walk has come, in bytes.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    fn advance(&mut self) -> Result<Option<Part<'f>>, Fault> {
        self.skip_blank();
        let close = if self.is_object { b'}' } else { b']' };
        match self.bytes.get(self.at) {
            None => return Err(self.fault("the file is cut off here")),
            Some(&byte) if byte == close => return self.finish(),
            Some(b',') if !self.is_first => self.at += 1,
            Some(_) if self.is_first => {}
            Some(_) => return Err(self.fault("a comma is missing")),
        }
        self.is_first = false;
        self.skip_blank();
        let key = if self.is_object { self.key()? } else { Cow::Borrowed("") };
        let line = self.line();
        let start = self.at;
        self.skip_value()?;
        Ok(Some(Part { key, value: &self.bytes[start..self.at], line }))
    }

    fn finish(&mut self) -> Result<Option<Part<'f>>, Fault> {
        self.is_done = true;
        self.at += 1;
        self.skip_blank();
        match self.bytes.get(self.at) {
            None => Ok(None),
            Some(_) => Err(self.fault("something follows the end of the value")),
        }
    }

    fn key(&mut self) -> Result<Cow<'f, str>, Fault> {
        let start = self.at;
        if self.bytes.get(start) != Some(&b'"') {
            return Err(self.fault("a member's name is missing"));
        }
        self.skip_string()?;
        let key = serde_json::from_slice::<String>(&self.bytes[start..self.at])
            .map_err(|error| self.fault(&format!("a member's name is broken: {error}")))?;
        self.skip_blank();
        if self.bytes.get(self.at) != Some(&b':') {
            return Err(self.fault("a colon is missing"));
        }
        self.at += 1;
        self.skip_blank();
        Ok(key.into())
    }

    /// Passes over one value by its brackets and quotes alone.
    fn skip_value(&mut self) -> Result<(), Fault> {
        let mut depth = 0_usize;
        loop {
            match self.bytes.get(self.at) {
                None => return Err(self.fault("the file is cut off here")),
                Some(b'"') => self.skip_string()?,
                Some(b'{' | b'[') => {
                    depth += 1;
                    self.at += 1;
                }
                Some(b'}' | b']') if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                Some(b',' | b':' | b' ' | b'\t' | b'\r' | b'\n') if depth > 0 => self.at += 1,
                Some(b'}' | b']' | b',' | b':') => return Err(self.fault("a value is missing")),
                Some(_) => self.skip_word(),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn skip_word(&mut self) {
        let ends = |byte: &u8| matches!(byte, b',' | b':' | b'}' | b']' | b'{' | b'[' | b'"');
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|b| ends(b) || b.is_ascii_whitespace());
        self.at += length.unwrap_or(rest.len()).max(1);
    }

    fn skip_string(&mut self) -> Result<(), Fault> {
        let mut at = self.at + 1;
        loop {
            match memchr2(b'"', b'\\', self.bytes.get(at..).unwrap_or(&[])) {
                None => return Err(self.fault("the text that begins here does not end")),
                Some(n) if self.bytes[at + n] == b'\\' => at += n + 2,
                Some(n) => {
                    self.at = at + n + 1;
                    return Ok(());
                }
            }
        }
    }

    fn skip_blank(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn line(&mut self) -> usize {
        let (from, line) = self.counted;
        let to = self.at.min(self.bytes.len());
        self.counted = (to, line + memchr_iter(b'\n', &self.bytes[from..to]).count());
        self.counted.1
    }

    fn fault(&mut self, what: &str) -> Fault {
        self.is_done = true;
        Fault { line: self.line(), what: what.to_owned() }
    }
}

impl<'f> Iterator for Parts<'f> {
    type Item = Result<Part<'f>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        self.advance().transpose()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn walk(text: &[u8]) -> Result<Vec<(String, String, usize)>, Fault> {
        Parts::of(text, 1)?
            .map(|part| {
                let part = part?;
                let value = String::from_utf8_lossy(part.value).into_owned();
                Ok((part.key.into_owned(), value, part.line))
            })
            .collect()
    }

    #[test]
    fn parts_come_with_their_lines() {
        let text = b"\n{\"a\": {\"x\": [1, \"}\"]},\n \"b\\n\"\n:\n \"q\\\"[\" , \"c\":null}\n";
        let expected =
            [("a", "{\"x\": [1, \"}\"]}", 2), ("b\n", "\"q\\\"[\"", 5), ("c", "null", 5)];
        let expected = expected.map(|(k, v, line)| (k.to_owned(), v.to_owned(), line));
        assert_eq!(walk(text).unwrap(), expected);
        assert_eq!(walk(b"[1 ,[2]]").unwrap().len(), 2);
        assert!(walk(b"{}").unwrap().is_empty() && walk(b" [ ] ").unwrap().is_empty());
    }

    #[test]
    fn faults_name_their_line() {
        let check = |text: &[u8], line: usize, what: &str| {
            let fault = walk(text).unwrap_err();
            assert_eq!((fault.line, fault.what.contains(what)), (line, true), "{fault:?}");
        };
        check(b"", 1, "nothing");
        check(b"\n7", 2, "no object");
        check(b"{\"a\": 1\n \"b\": 2}", 2, "comma");
        check(b"{\"a\": 1,\n \"b\"", 2, "colon");
        check(b"{\"a\": 1,\n b}", 2, "name");
        check(b"{\"a\":\n \"x", 2, "does not end");
        check(b"{\"a\": [1,\n", 2, "cut off");
        check(b"{\"a\": }", 1, "a value is missing");
        check(b"{}\n{}", 2, "something follows");
        check(b"[1\\", 1, "cut off");
    }

    proptest! {
        #[test]
        fn what_serde_reads_has_the_same_parts(texts in proptest::collection::vec(".*", 0..6)) {
            let text = serde_json::to_vec(&texts).unwrap();
            let read: Vec<String> = Parts::of(&text, 1)
                .unwrap()
                .map(|part| part.unwrap().read().unwrap())
                .collect();
            prop_assert_eq!(read, texts);
        }

        #[test]
        fn no_bytes_make_it_panic_or_run_on(bytes in proptest::collection::vec(
            proptest::sample::select(&b"{}[]\",:\\ \n1a\xff"[..]), 0..40,
        )) {
            let n_parts = Parts::of(&bytes, 1).map_or(0, Iterator::count);
            prop_assert!(n_parts <= bytes.len());
        }
    }
}
