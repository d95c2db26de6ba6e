using System.Diagnostics;
using KvNode.Testing;

namespace KvNode.Crash.Tests;

internal static class Waiting
{
    /// <summary>Waits for something that must happen; fails after the limit.</summary>
    public static void Until(Func<bool> happened, string otherwise, int seconds = 60)
    {
        var clock = Stopwatch.StartNew();
        while (!happened())
        {
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(seconds), otherwise);
            Thread.Sleep(2);
        }
    }

    /// <summary>Waits until the load has that many answers more than now, or the node is gone.</summary>
    public static void ForAnswers(WriteLoad load, int more, NodeProcess node)
    {
        var target = load.Answered + more;
        Until(
            () => load.Answered >= target || load.Violation is not null || node.Process.HasExited,
            $"the load stopped at {load.Answered} answers");
        Assert.False(node.Process.HasExited, node.ErrorText);
        Assert.Null(load.Violation);
    }
}
