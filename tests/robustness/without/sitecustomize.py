"""Python imports this when it starts, if the folder is on PYTHONPATH."""

import json
import os
import sys

import take_out

if os.environ.get("LLMCOURSE_WITHOUT"):
    sys.meta_path.insert(0, take_out.Finder(json.loads(os.environ["LLMCOURSE_WITHOUT"])))
