"""Programs that run in the environments of other libraries; they do not import Polymodal."""
