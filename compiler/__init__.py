"""The compiler: from a resolved spec to a launch plan (`compile`), and the plan's text and shell forms."""
