"""Fine-tuning here beside a plain script of TRL and peft, on the same data."""
