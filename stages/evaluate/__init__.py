"""How often is a model right on problems that it has not seen?"""
