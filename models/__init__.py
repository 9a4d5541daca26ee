"""What is usual for one agent, and how far the next event is from it.

Pure: values in, values out. Nothing here does I/O, reads a clock, or knows of Kafka; time comes from the event.
Higher scores are stranger, in bits, and every event is scored before it is learned.
"""
