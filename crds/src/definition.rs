//! The definition that is installed into clusters, and the YAML that charts carry.

use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::Value;

use crate::Registry;

/// The definition of `Registry`.
pub fn definition() -> CustomResourceDefinition {
    Registry::crd()
}

/// Any value as YAML, in the order of its fields, which ends with a line break.
pub fn yaml(value: &Value) -> String {
    let mut text = String::new();
    write_block(&mut text, value, 0);
    text
}

fn write_block(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                let _ = write!(text, "{:indent$}{}:", "", scalar(&Value::String(key.clone())));
                write_value(text, value, indent + 2);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut block = String::new();
                write_block(&mut block, item, indent + 2);
                let _ = write!(text, "{:indent$}- {}", "", block.trim_start_matches(' '));
            }
        }
        other => {
            let _ = writeln!(text, "{:indent$}{}", "", scalar(other));
        }
    }
}

fn write_value(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            text.push('\n');
            write_block(text, value, indent);
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            write_block(text, value, indent);
        }
        other => {
            let _ = writeln!(text, " {}", scalar(other));
        }
    }
}

/// JSON is YAML; quotes are left out where nobody could take the word for something else.
fn scalar(value: &Value) -> String {
    const WORDS: [&str; 8] = ["true", "false", "null", "yes", "no", "on", "off", "y"];
    match value {
        Value::String(word)
            if word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
                && word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
                && !WORDS.contains(&word.to_ascii_lowercase().as_str())
                && !word.eq_ignore_ascii_case("n") =>
        {
            word.clone()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// `ROADSTEAD_WRITE_GOLDEN=1` writes the file anew.
    #[test]
    fn golden_definition() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("registries.roadstead.dev.yaml");
        let text = yaml(&serde_json::to_value(definition()).unwrap());
        if std::env::var_os("ROADSTEAD_WRITE_GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap();
        assert!(golden == text, "crds/registries.roadstead.dev.yaml is not what the types say");
    }

    /// What `kubectl apply` keeps of an object in an annotation is at most this long.
    #[test]
    fn the_definition_can_be_applied() {
        assert!(serde_json::to_string(&definition()).unwrap().len() < 256 << 10);
    }

    /// Strings and lists without an end cost the API server more than it grants to rules.
    #[test]
    fn everything_in_the_spec_is_bounded() {
        let crd = serde_json::to_value(definition()).unwrap();
        let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let mut unbounded = Vec::new();
        look(spec, "spec", &mut unbounded);
        assert!(unbounded.is_empty(), "{unbounded:?}");
    }

    fn look(schema: &Value, path: &str, unbounded: &mut Vec<String>) {
        let is_bounded = match schema["type"].as_str() {
            Some("string") => schema.get("enum").is_some() || schema.get("maxLength").is_some(),
            Some("array") => schema.get("maxItems").is_some(),
            Some("object") => schema.get("properties").is_some() || schema.get("maxProperties").is_some(),
            Some(_) => true,
            None => false,
        };
        let is_explained = schema.get("description").is_some() || path.ends_with(']') || path.ends_with('*');
        if !is_bounded || !is_explained {
            unbounded.push(path.to_owned());
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            look(property, &format!("{path}.{name}"), unbounded);
        }
        if let Some(items) = schema.get("items") {
            look(items, &format!("{path}[]"), unbounded);
        }
    }

    #[test]
    fn yaml_says_what_json_says() {
        let value = serde_json::json!({
            "a": {"b": [1, "x y", {"c": "yes", "d": {}}, [], ["e", [true]]], "f": null}, "g": "", "h": "1.0"
        });
        let text = "a:\n  b:\n    - 1\n    - \"x y\"\n    - c: \"yes\"\n      d: {}\n    - []\n    - - e\n      - - true\n  f: null\n\
                    g: \"\"\nh: \"1.0\"\n";
        assert_eq!(yaml(&value), text);
    }
}
