"""How news of studies arrives; each source delivers intake values to one callable."""
