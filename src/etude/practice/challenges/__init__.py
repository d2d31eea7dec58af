"""The challenges, a folder each; `manifest.toml` orders them. README.md says how to add one."""
