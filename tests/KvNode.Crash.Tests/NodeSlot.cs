using KvNode.Testing;

namespace KvNode.Crash.Tests;

/// <summary>The node of the moment, in tests that go through many.</summary>
internal sealed class NodeSlot(NodeProcess first) : IDisposable
{
    public NodeProcess Current { get; private set; } = first;

    /// <summary>Disposes the one before, which has ended by then or ends now.</summary>
    public void Replace(NodeProcess next)
    {
        Current.Dispose();
        Current = next;
    }

    public void Dispose() => Current.Dispose();
}

/// <summary>How long the open-ended tests run.</summary>
internal static class Soak
{
    /// <summary>Set by tests/soak.sh: minutes for each open-ended test.</summary>
    public const string Variable = "KVNODE_SOAK_MINUTES";

    public static bool IsOn => Environment.GetEnvironmentVariable(Variable) is { Length: > 0 };

    public static TimeSpan Time(TimeSpan otherwise) =>
        Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } minutes
            ? TimeSpan.FromMinutes(double.Parse(minutes))
            : otherwise;
}
