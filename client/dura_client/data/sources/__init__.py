"""What a study asks of data besides signals: where examples are cut, where their answers stand, vectors of patients."""
