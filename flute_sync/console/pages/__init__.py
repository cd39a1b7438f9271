"""Pages that a person looks at: who is admitted, studies, one study."""
