"""Classifiers of all domains: metrics, class weights, and predictions."""
