//! Read-only file maps behind a safe face.
