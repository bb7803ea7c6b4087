//! How far a name that was written is from one that is known, to tell what may have been meant.

/// Names that are looked at; the distance takes the product of both lengths, and who writes a name may make it as long as it likes.
pub const BYTES_MAX: usize = 100;

/// The known name that this one may be a slip for.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    if name.len() > BYTES_MAX {
        return None;
    }
    // Words that differ in nothing but their letters' case, or in what joins them, are the same to who mistook them.
    let plain = |name: &str| name.replace(['-', '_'], "").to_lowercase();
    let distances = known.iter().map(|known| (distance(&plain(name), &plain(known)), *known));
    distances.filter(|(distance, known)| is_slip(*distance, known)).min().map(|(_, known)| known)
}

/// Are so many wrong letters few enough for a slip?
pub fn is_slip(distance: usize, known: &str) -> bool {
    distance * 3 <= known.len()
}

/// How many letters have to be inserted, removed or replaced to make `b` of `a` (Levenshtein).
pub fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, to) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[row.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_single_letters() {
        for (a, b, expected) in [("", "", 0), ("abc", "", 3), ("", "abc", 3), ("abc", "abc", 0), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn a_slip_is_near_and_anything_else_is_not() {
        let known = ["publish", "subscribe", "messagesPerSecond"];
        for (name, meant) in [
            ("publsh", Some("publish")),
            ("Publish", Some("publish")),
            ("messages_per_second", Some("messagesPerSecond")),
            ("admin", None),
            ("", None),
            (&"publish".repeat(100), None),
        ] {
            assert_eq!(nearest(name, &known), meant, "{name}");
        }
    }
}
