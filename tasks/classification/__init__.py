"""What classifiers of all domains share: metrics, class weights, and predictions."""
