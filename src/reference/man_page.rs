//! Manual pages, by clap_mangen, except that examples keep their lines: it fills them like prose.

use clap::Command;
use clap::builder::Resettable;
use clap_mangen::Man;

/// The manual page of each command: file name, such as `grimace-train.1`, and roff.
///
/// # Errors
/// None in practice: pages are written to memory.
pub fn man_pages(command: &Command) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut root = command.clone().disable_help_subcommand(true);
    root.build();
    let mut pages = Vec::new();
    add(&root, &mut pages)?;
    Ok(pages)
}

fn add(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
    let notes = command.get_after_help().map(ToString::to_string);
    let man = Man::new(command.clone().after_help(Resettable::Reset));
    let mut page = Vec::new();
    man.render(&mut page)?;
    if let Some(notes) = notes {
        page.extend_from_slice(b".SH NOTES\n.nf\n");
        for line in notes.lines() {
            page.extend_from_slice(escaped(line).as_bytes());
            page.push(b'\n');
        }
        page.extend_from_slice(b".fi\n");
    }
    pages.push((man.get_filename(), page));
    let shown = |subcommand: &&Command| !subcommand.is_hide_set();
    command.get_subcommands().filter(shown).try_for_each(|subcommand| add(subcommand, pages))
}

/// A line of text as roff, in which `-` is a hyphen, and `.` or `'` begin a request.
fn escaped(line: &str) -> String {
    let text = line.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_keep_their_lines() {
        let sub = Command::new("sub").after_help("Example:\n  x sub --data a \\\n      --out b");
        let command = Command::new("x").subcommand(sub).subcommand(Command::new("hidden").hide(true));
        let pages = man_pages(&command).unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x.1", "x-sub.1"]);
        let page = String::from_utf8_lossy(&pages[1].1);
        let expected = ".SH NOTES\n.nf\nExample:\n  x sub \\-\\-data a \\e\n      \\-\\-out b\n.fi\n";
        assert!(page.ends_with(expected) && !page.contains("EXTRA"), "{page}");
        assert_eq!(escaped(".x"), "\\&.x");
    }
}
