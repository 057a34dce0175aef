"""What held-out labelled cases say about a trained model: its temperature, and the Dice of a case without a label."""
