"""Connectomes: where series and volumes of fMRI lie, how an atlas turns volumes into series, what is taken of them."""
