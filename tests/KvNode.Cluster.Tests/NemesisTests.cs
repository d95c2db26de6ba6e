using System.Diagnostics;
using KvNode.Cluster.Tests.Harness;
using KvNode.Testing;

namespace KvNode.Cluster.Tests;

/// <summary>Random faults for as long as asked (tests/soak.sh), for a few seconds otherwise.</summary>
public sealed class NemesisTests
{
    /// <summary>A history is checked and begun anew so often: the checker wants it whole, in memory.</summary>
    private static readonly TimeSpan Chapter = TimeSpan.FromSeconds(45);

    [Theory]
    [InlineData(3)]
    [InlineData(5)]
    public void ClusterStaysLinearizableWhateverHappens(int nodes)
    {
        Seeds.Run($"{nameof(ClusterStaysLinearizableWhateverHappens)}({nodes})", random =>
        {
            var clock = Stopwatch.StartNew();
            var time = Soak.Time(TimeSpan.FromSeconds(nodes == 3 ? 6 : 1));
            using var cluster = Harness.Cluster.Start(nodes, new ClusterOptions { WithFaults = true });
            var nemesis = new Nemesis(cluster, random);
            var chapters = 0;
            do
            {
                var chapter = Stopwatch.StartNew();
                var load = new HistoryLoad(cluster, random).Start();
                load.WaitForProgress();
                do
                {
                    nemesis.DoSomething(load);
                }
                while (chapter.Elapsed < Chapter && clock.Elapsed < time);
                load.StopAndCheck();
                cluster.RequireEqualStates();
                Console.WriteLine($"{nodes} nodes, {clock.Elapsed.TotalSeconds:f0} s, chapter {++chapters}: {nemesis.Summary()}");
            }
            while (clock.Elapsed < time);
        });
    }
}
