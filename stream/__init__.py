"""The edge: files, Kafka, HTTP, settings, metrics, words. Imports `models`, never the other way round."""
