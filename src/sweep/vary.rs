//! `--vary KEY=V1,V2`: a grid of config overrides, and the names of its runs.

use anyhow::{Context as _, Result, bail};

use crate::util::error::input;
use crate::util::text::short;

/// Characters of an argument that an error message repeats.
const MAX_SHOWN: usize = 100;

/// Bytes of the longest config name, see `name` in a config.
const MAX_NAME: usize = 100;

/// A config key and its values: one `--vary`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variation {
    key: String,
    values: Vec<String>,
}

impl Variation {
    /// Parses every `KEY=V1,V2`. Commas inside brackets or quotes do not separate values.
    ///
    /// # Errors
    /// An input error for text of another form, an empty or repeated value, a repeated key, nested
    /// keys, and for `name`, `seed` and `device`.
    pub fn parse_all(arguments: &[String]) -> Result<Vec<Self>> {
        let mut variations: Vec<Self> = Vec::new();
        for text in arguments {
            let refuse = |problem: String| input(format!("--vary {}: {problem}", short(text, MAX_SHOWN)));
            let variation = Self::parse(text).map_err(|error| refuse(error.to_string()))?;
            if variations.iter().any(|other| other.key == variation.key) {
                return Err(refuse(format!("{} is given twice; list all its values in one --vary", variation.key)));
            }
            let contains =
                |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
            let nested = |other: &&Self| contains(&other.key, &variation.key) || contains(&variation.key, &other.key);
            if let Some(other) = variations.iter().find(nested) {
                return Err(refuse(format!("one of {} and {} contains the other", other.key, variation.key)));
            }
            variations.push(variation);
        }
        Ok(variations)
    }

    fn parse(text: &str) -> Result<Self> {
        let expected = "expected KEY=V1,V2, such as train.batch=64,128";
        let (key, list) = text.split_once('=').context(expected)?;
        let key = key.trim();
        match key {
            "" => bail!("the key is empty; {expected}"),
            "name" => bail!("a run's name follows from its config and values"),
            "seed" => bail!("use --seeds N to train with several seeds"),
            "device" => bail!("a sweep assigns devices to its processes, see --parallel"),
            _ => {}
        }
        let values = split_values(list).context("a bracket or quote is not closed")?;
        if values.iter().any(String::is_empty) {
            bail!("a value is empty; {expected}");
        }
        if let Some(value) =
            values.iter().enumerate().find_map(|(i, value)| values.iter().take(i).find(|v| *v == value))
        {
            bail!("the value {} is given twice", short(value, MAX_SHOWN));
        }
        Ok(Self { key: key.to_owned(), values })
    }
}

/// Splits at commas outside brackets and quotes, and trims; `None` if one is not closed.
fn split_values(list: &str) -> Option<Vec<String>> {
    let (mut values, mut value) = (Vec::new(), String::new());
    // Closing brackets and quotes that are still expected.
    let mut open: Vec<char> = Vec::new();
    let mut is_escaped = false;
    for c in list.chars() {
        match open.last().copied() {
            Some('"') if is_escaped => is_escaped = false,
            Some('"') if c == '\\' => is_escaped = true,
            Some(quote @ ('"' | '\'')) => {
                if c == quote {
                    open.pop();
                }
            }
            bracket => match c {
                '[' => open.push(']'),
                '{' => open.push('}'),
                ']' | '}' if bracket == Some(c) => {
                    open.pop();
                }
                // In the middle of an unquoted string it is an ordinary character, as in it's.csv.
                '"' | '\'' if bracket.is_some() || value.trim().is_empty() => open.push(c),
                ',' if bracket.is_none() => {
                    values.push(std::mem::take(&mut value).trim().to_owned());
                    continue;
                }
                _ => {}
            },
        }
        value.push(c);
    }
    values.push(value.trim().to_owned());
    open.is_empty().then_some(values)
}

/// Number of points of the grid.
pub fn grid_size(variations: &[Variation]) -> usize {
    variations.iter().map(|variation| variation.values.len()).fold(1, usize::saturating_mul)
}

/// The cartesian product: `KEY=VALUE` for each variation at each point. The last variation changes
/// fastest. Without variations there is one point, the config itself.
pub fn grid(variations: &[Variation]) -> Vec<Vec<String>> {
    variations.iter().fold(vec![Vec::new()], |points, Variation { key, values }| {
        let extend = |point: &Vec<String>| -> Vec<Vec<String>> {
            values.iter().map(|value| [&point[..], &[format!("{key}={value}")]].concat()).collect()
        };
        points.iter().flat_map(extend).collect()
    })
}

/// The name of a config's runs at a point of the grid: both, with a dash for every part that a name
/// cannot have. A name that would be too long is cut and ends in a hash of the full name.
pub fn run_name(config: &str, point: &[String]) -> String {
    if point.is_empty() {
        return config.to_owned();
    }
    let full_name = format!("{config}-{}", point.join("-"));
    let parts = full_name.split(|c: char| !(c.is_alphanumeric() || "-_.+".contains(c))).filter(|part| !part.is_empty());
    let name = parts.collect::<Vec<_>>().join("-");
    if name.len() <= MAX_NAME {
        return name;
    }
    let hash = blake3::hash(full_name.as_bytes()).to_hex();
    let suffix = format!("-{}", hash.get(..8).unwrap_or_default());
    let end = name.floor_char_boundary(MAX_NAME - suffix.len());
    format!("{}{suffix}", name.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Vec<Variation>> {
        Variation::parse_all(&arguments.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn values_split_at_commas_outside_brackets_and_quotes() {
        for (list, expected) in [
            ("1", &["1"][..]),
            (" 0 , 0.998 ", &["0", "0.998"]),
            ("[8,16],[16, 32]", &["[8,16]", "[16, 32]"]),
            ("{kind=\"sgd\",lr=0.1},{kind=\"adam\"}", &["{kind=\"sgd\",lr=0.1}", "{kind=\"adam\"}"]),
            ("\"a,b\",'c,d',e", &["\"a,b\"", "'c,d'", "e"]),
            (r#""a\",b",c"#, &[r#""a\",b""#, "c"]),
            ("[\"]\",1],2", &["[\"]\",1]", "2"]),
            ("it's.csv,x]y", &["it's.csv", "x]y"]),
        ] {
            assert_eq!(split_values(list).unwrap(), expected, "{list}");
        }
        for list in ["[1,2", "{a=1", "\"a,b", "'a", "[1,2}"] {
            assert_eq!(split_values(list), None, "{list}");
        }
    }

    #[test]
    fn the_grid_is_the_product_in_order() {
        let variations = parse(&["train.ema=0,0.998", "model.filters=[8],[8,16]"]).unwrap();
        let points: Vec<String> = grid(&variations).iter().map(|point| point.join(" ")).collect();
        assert_eq!(
            points,
            [
                "train.ema=0 model.filters=[8]",
                "train.ema=0 model.filters=[8,16]",
                "train.ema=0.998 model.filters=[8]",
                "train.ema=0.998 model.filters=[8,16]",
            ]
        );
        assert_eq!((grid_size(&variations), grid_size(&[])), (4, 1));
        assert_eq!(grid(&[]), [Vec::<String>::new()]);
    }

    #[test]
    fn names_contain_the_values_and_are_valid_folder_names() {
        let name = |point: &[&str]| {
            let point: Vec<String> = point.iter().map(|text| (*text).to_owned()).collect();
            run_name("notebook", &point)
        };
        assert_eq!(name(&[]), "notebook");
        assert_eq!(name(&["train.ema=0.998"]), "notebook-train.ema-0.998");
        assert_eq!(name(&["a=1", "b=x y"]), "notebook-a-1-b-x-y");
        assert_eq!(name(&["a=-1"]), "notebook-a--1");
        assert_eq!(name(&["train.optimizer={kind=\"sgd\", lr=1e-3}"]), "notebook-train.optimizer-kind-sgd-lr-1e-3");
        let (long, other) = ("ä".repeat(200), "ä".repeat(201));
        let names = [&long, &other].map(|value| name(&[&format!("a={value}")]));
        assert!(names.iter().all(|name| name.len() <= MAX_NAME && name.starts_with("notebook-a-ä")), "{names:?}");
        assert_ne!(names[0], names[1]);
    }

    #[test]
    fn errors_name_the_argument() {
        for (arguments, part) in [
            (&["train.ema"][..], "--vary train.ema: expected KEY=V1,V2"),
            (&["=1"], "--vary =1: the key is empty"),
            (&["train.ema="], "--vary train.ema=: a value is empty"),
            (&["train.ema=0,"], "--vary train.ema=0,: a value is empty"),
            (&["train.ema=0,0"], "--vary train.ema=0,0: the value 0 is given twice"),
            (&["model.filters=[1,2"], "a bracket or quote is not closed"),
            (&["train.ema=0", "train.ema=0.9"], "--vary train.ema=0.9: train.ema is given twice"),
            (&["seed=1,2"], "--vary seed=1,2: use --seeds N"),
            (&["name=a,b"], "--vary name=a,b: a run's name follows"),
            (&["device=cpu,cuda:0"], "--vary device=cpu,cuda:0: a sweep assigns devices"),
            (
                &["train.optimizer={lr=1}", "train.optimizer.lr=1,2"],
                "one of train.optimizer and train.optimizer.lr contains the other",
            ),
        ] {
            let message = parse(arguments).unwrap_err().to_string();
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    }
}
