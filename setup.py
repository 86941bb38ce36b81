"""Lets tools that know no setup.cfg install the project; all metadata is there."""

import setuptools

setuptools.setup()
