"""Programs for the environments of other libraries; they do not import Polymodal."""
