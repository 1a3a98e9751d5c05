"""Scripts to beat: what a competent user would write in an hour, one file for each kind of data.

Each has `run(job)`. The scripts know the types of the columns; they do not import Polymodal's models. A script for
classification returns `(classes, probabilities)`, or a list of classes if its model has no probabilities; a script for
regression returns numbers.
"""
