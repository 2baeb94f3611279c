"""The command line, installed as `statezoo.scripts`: one file for each group of verbs. Nothing else imports it."""
