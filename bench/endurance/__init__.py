"""One interruption after another under steady traffic: is anything lost, and does anything grow?"""
