//! Where in a request a member means something, for the Messages API, Responses and Chat Completions together: their words do
//! not contradict each other, and what stands behind a provider's address may speak more than one of them.

/// Members that mean something. At most 64.
pub(super) const KNOWN: &[&str] = &[
    "audio",
    "background",
    "container",
    "container_id",
    "content",
    "conversation",
    "encrypted_content",
    "environment",
    "file",
    "file_id",
    "file_ids",
    "file_url",
    "id",
    "image_url",
    "input",
    "input_audio",
    "input_image_mask",
    "instructions",
    "mcp_servers",
    "messages",
    "model",
    "output",
    "previous_response_id",
    "prompt",
    "role",
    "skills",
    "source",
    "store",
    "system",
    "tools",
    "type",
    "url",
    "vector_store_ids",
    "web_search_options",
];

/// Bytes of a name that can be one of those.
const NAME_BYTES: usize = 80;

/// Kinds of tools that run at the client, or are a search among the request's own tools. Without the dates that some end in.
const CLIENT_TOOLS: &[&str] = &[
    "apply_patch",
    "bash",
    "computer",
    "computer_use",
    "custom",
    "function",
    "local_shell",
    "memory",
    "namespace",
    "text_editor",
    "tool_search",
    "tool_search_tool_bm",
    "tool_search_tool_regex",
];

/// What is said and done in a conversation of Responses without help of the provider's.
const CLIENT_ITEMS: &[&str] = &[
    "apply_patch_call",
    "apply_patch_call_output",
    "compaction",
    "computer_call",
    "computer_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "function_call",
    "function_call_output",
    "local_shell_call",
    "local_shell_call_output",
    "message",
    "shell_call",
    "shell_call_output",
    "tool_search_call",
    "tool_search_output",
];

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The request.
    Top,
    /// A tool that the model is offered.
    Tool,
    /// A piece of the conversation of Responses.
    Item,
    /// A message, or a block of content.
    Part,
    /// Where the bytes of an image, a document or a sound come from.
    Source,
    /// Anything below something that the settings allow.
    Below,
    /// A schema, arguments, what the API gives no meaning to: it is not looked into.
    Free,
}

impl Place {
    /// What an object is that is the value of this member, or in an array that is.
    pub(super) fn inside(self, member: &str) -> Self {
        match (self, member) {
            (Self::Free, _) => Self::Free,
            (Self::Below, _) | (Self::Top, "container" | "mcp_servers" | "prompt") => Self::Below,
            (Self::Tool, "input_image_mask") => Self::Below,
            (Self::Tool | Self::Item | Self::Part, "container" | "environment") => Self::Below,
            (_, "tools") => Self::Tool,
            (Self::Top, "input") => Self::Item,
            (Self::Top, "messages" | "system" | "instructions") => Self::Part,
            (Self::Item | Self::Part | Self::Source, "content" | "output") => Self::Part,
            (Self::Item | Self::Part, "file" | "input_audio") => Self::Part,
            (Self::Item | Self::Part, "source" | "image_url" | "audio") => Self::Source,
            _ => Self::Free,
        }
    }
}

/// The member that a name means, however its letters are written: some readers do not tell small ones from large ones.
pub(super) fn known(name: &str) -> &'static str {
    if name.len() > NAME_BYTES {
        return "";
    }
    let folded = || name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    KNOWN.iter().find(|known| folded().eq(known.chars())).copied().unwrap_or_default()
}

/// The word in `allow` that opens a tool of this kind; none for one that needs no leave.
pub(super) fn refused_tool(kind: &str) -> Option<&str> {
    let kind = family(kind);
    (!CLIENT_TOOLS.contains(&kind)).then_some(kind)
}

/// The same for what a tool of the provider's left in a conversation.
pub(super) fn refused_item(kind: &str) -> Option<&str> {
    let tool = kind.strip_suffix("_output").unwrap_or(kind);
    (!CLIENT_ITEMS.contains(&kind)).then(|| family(tool.strip_suffix("_call").unwrap_or(tool)))
}

/// A kind of tool without its version: `web_search_20250305`, `web_search_preview_2025_03_11`.
fn family(kind: &str) -> &str {
    if kind == "mcp" || kind.starts_with("mcp_") {
        return "mcp";
    }
    let undated = kind.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
    undated.strip_suffix("_preview").unwrap_or(undated)
}
