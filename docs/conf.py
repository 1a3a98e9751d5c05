"""Configuration of the documentation site. Build it with `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

from _generate import write_reference  # noqa: E402

from polymodal import __version__  # noqa: E402

write_reference(DOCS / "reference")

project = "Polymodal"
copyright = "the Polymodal authors, Apache-2.0"
version = release = __version__
language = "en"

extensions = ["myst_parser", "sphinx_design", "sphinx_copybutton"]
exclude_patterns = ["_generate", "_static", "README.md"]
myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 4
# Indented blocks are the output of commands; every other block names its language.
highlight_language = "none"
# The names of types in signatures are shown and not linked: the reference has no pages for them.
nitpick_ignore_regex = [("py:.*", ".*")]
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
toc_object_entries = False

html_theme = "pydata_sphinx_theme"
html_title = f"Polymodal {version}"
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_sidebars = {"index": [], "zh/index": []}
html_theme_options = {
    "logo": {"text": "Polymodal", "alt_text": "Polymodal"},
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 7,
    "show_nav_level": 1,
    "navigation_depth": 3,
    "show_toc_level": 1,
    "secondary_sidebar_items": ["page-toc"],
    "primary_sidebar_end": [],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "search_bar_text": "Search ...",
    "back_to_top_button": False,
}

# Blocks of output have no button.
copybutton_selector = ":is(.highlight-bash, .highlight-python, .highlight-pycon, .highlight-yaml, .highlight-yml) pre"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
