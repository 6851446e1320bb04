"""The job itself: plan what is left to do, ask the provider, record each answer, write outputs."""
