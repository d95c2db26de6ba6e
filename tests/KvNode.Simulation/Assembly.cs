global using Xunit;

// The simulations use all processors by themselves.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
[assembly: CaptureConsole]
