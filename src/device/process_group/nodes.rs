//! Slurm's lists of machines.

/// The first machine in a list such as `gpu[07-09,12],login`.
pub fn first_host(list: &str) -> Option<String> {
    let mut name = String::new();
    let mut rest = list.trim();
    while let Some(found) = rest.find(['[', ',']) {
        let (before, from) = rest.split_at_checked(found)?;
        name.push_str(before);
        let Some(inside) = from.strip_prefix('[') else { return complete(name) };
        let (numbers, after) = inside.split_once(']')?;
        name.push_str(numbers.split(['-', ',']).next()?);
        rest = after;
    }
    name.push_str(rest);
    complete(name)
}

fn complete(name: String) -> Option<String> {
    (!name.is_empty() && !name.contains([']', '[', ' '])).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_list() {
        for (list, first) in [
            ("node1", Some("node1")),
            ("node1,node2", Some("node1")),
            ("gpu[07-09,12],login", Some("gpu07")),
            ("gpu[3]", Some("gpu3")),
            ("r[1-2]n[4,6]-ib", Some("r1n4-ib")),
            ("", None),
            ("gpu[1-2", None),
            (",a", None),
        ] {
            assert_eq!(first_host(list).as_deref(), first, "{list}");
        }
    }
}
