"""What an HTML page would load from elsewhere."""

import re
from html.parser import HTMLParser


class Loads(HTMLParser):
    """What a page would load from elsewhere: addresses in attributes, in styles and in scripts that are fetched."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            # a link that a reader may click loads nothing; a namespace is a name
            if (tag == "a" and name in ("href", "xlink:href")) or name.startswith("xmlns"):
                continue
            if re.search(r"(https?:)?//[\w.-]+\.\w", value or ""):
                self.found.append(f"<{tag} {name}={value[:80]}>")

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        self.found += re.findall(r"url\(['\"]?(?:https?:)?//[^)]{1,80}|@import[^;]{1,80}", data)
        # inside a script or a style: any address that is no namespace and no comment about a licence
        if self.cdata_elem:
            code = re.sub(r"/\*.*?\*/|^\s*//.*$", "", data, flags=re.DOTALL | re.MULTILINE)
            self.found += re.findall(r"https?://(?!www\.w3\.org/)[^\s\"'`)]{1,80}", code)


def loads(html: str) -> list[str]:
    parser = Loads()
    parser.feed(html)
    parser.close()
    return parser.found
