using BenchmarkDotNet.Running;

namespace KvNode.Bench;

internal static class Entry
{
    private static void Main(string[] args) => BenchmarkSwitcher.FromAssembly(typeof(Entry).Assembly).Run(args);
}
