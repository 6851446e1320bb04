"""The providers that come with the tool, one file each; imported when first asked for."""
