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
