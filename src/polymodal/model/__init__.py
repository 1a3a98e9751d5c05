"""Models and ensembles: prediction, evaluation, saving and loading."""
