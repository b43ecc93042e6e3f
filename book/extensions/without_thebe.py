"""Keep Thebe out of the book.

Jupyter Book always loads sphinx-thebe, which writes a remote script address into every page and
requests a style sheet that is not there, also where no button asks for it. There is no option.
"""

from sphinx.application import Sphinx
from sphinx.config import Config


def disconnect(app: Sphinx, config: Config) -> None:
    """Drop what sphinx-thebe wants to do once all extensions are loaded."""
    for listeners in app.events.listeners.values():
        listeners[:] = [
            listener
            for listener in listeners
            if getattr(listener.handler, "__module__", None) != "sphinx_thebe"
        ]
    app.registry.css_files[:] = [
        style for style in app.registry.css_files if style[0] != "sphinx-thebe.css"
    ]


def setup(app: Sphinx) -> dict:
    app.connect("config-inited", disconnect)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
