"""Sphinx's configuration for the sources that pages.py writes. Neither Sphinx nor the pages use the network."""

project = "Finetune LLMs"
html_title = project
language = "en"
root_doc = "index"

extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath", "attrs_block"]
myst_heading_anchors = 4
# pages.py writes beside: for links to the deck, which lies beside the pages and is not one of them.
myst_url_schemes = {"http": None, "https": None, "mailto": None, "beside": "{{path}}"}

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["course.css"]
html_js_files = ["course.js"]
html_favicon = "static/favicon.svg"  # a matrix and the two thin ones of LoRA
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_use_index = False
html_domain_indices = False
html_math_renderer = "mathml"
pygments_dark_style = "github-dark-high-contrast"


def mathml(self, node, display: str) -> None:
    """Write TeX as MathML, which browsers draw without scripts or fonts, and screen readers can read.

    Raises ValueError for TeX that latex2mathml does not know.
    """
    from docutils.nodes import SkipNode
    from latex2mathml.converter import convert

    element = convert(node.astext(), display=display)
    if "\\" in element:
        raise ValueError(f"latex2mathml does not know all of {node.astext()!r}")
    element = element.replace("<mi>:</mi>", '<mo lspace="0.28em" rspace="0.28em">:</mo>')  # a relation, as TeX has it
    self.body.append(element if display == "inline" else f'<div class="math" tabindex="0">{element}</div>')
    raise SkipNode


def levels(app, page: str, template: str, context: dict, doctree) -> None:
    """Give the captions of the contents a heading level, which screen readers need and Sphinx leaves out."""
    tree = context["furo_navigation_tree"]
    context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')


def setup(app) -> None:
    """Draw mathematics as MathML, and copy the deck beside the pages. Sphinx calls this."""
    app.connect("html-page-context", levels, priority=900)  # after the theme has made the contents
    app.add_html_math_renderer(
        "mathml",
        (lambda self, node: mathml(self, node, "inline"), None),
        (lambda self, node: mathml(self, node, "block"), None),
    )
    app.config.html_extra_path = [str(path) for path in app.srcdir.glob("*.html")]
