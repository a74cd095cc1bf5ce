//! The configs of `configs/`, for a program that was installed without them.

/// Names and texts, in the order of the folder.
const CONFIGS: [(&str, &str); 14] = [
    ("finetune", include_str!("../../configs/finetune.toml")),
    ("forest", include_str!("../../configs/forest.toml")),
    ("no-augment", include_str!("../../configs/no-augment.toml")),
    ("notebook", include_str!("../../configs/notebook.toml")),
    ("stratified", include_str!("../../configs/stratified.toml")),
    ("best/cpu", include_str!("../../configs/best/cpu.toml")),
    ("best/gpu", include_str!("../../configs/best/gpu.toml")),
    ("best/short", include_str!("../../configs/best/short.toml")),
    ("best/vgg", include_str!("../../configs/best/vgg.toml")),
    ("sweep/average", include_str!("../../configs/sweep/average.toml")),
    ("sweep/deep", include_str!("../../configs/sweep/deep.toml")),
    ("sweep/large-batch", include_str!("../../configs/sweep/large-batch.toml")),
    ("sweep/notebook", include_str!("../../configs/sweep/notebook.toml")),
    ("sweep/wide", include_str!("../../configs/sweep/wide.toml")),
];

/// The names, such as `notebook` and `best/cpu`.
pub fn config_names() -> impl Iterator<Item = &'static str> {
    CONFIGS.iter().map(|(name, _)| *name)
}

/// The config of this name, without the line that names its schema by a path in the repository.
pub fn config_text(name: &str) -> Option<&'static str> {
    let (_, text) = CONFIGS.iter().find(|(known, _)| *known == name)?;
    Some(text.split_once('\n').filter(|(first, _)| first.starts_with("#:schema")).map_or(*text, |(_, rest)| rest))
}
