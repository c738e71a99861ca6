"""The smoke set: many classes of the field, each built small from its defaults and captured with one example call.

It says that capture holds on models nobody here has looked at, and that no graph contradicts itself; what the roles
are is judged by the labels of `architectures`.
"""
