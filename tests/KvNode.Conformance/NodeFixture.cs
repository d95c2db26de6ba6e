using KvNode.Testing;

namespace KvNode.Conformance;

/// <summary>One node for the tests of one class, and one redis-server to compare with.</summary>
public sealed class NodeFixture : IDisposable
{
    private readonly TempDirectory _directory = new("conformance");
    private readonly Lazy<RedisProcess?> _redis = new(RedisProcess.TryStart);

    public NodeFixture() => Node = NodeProcess.Start(_directory.Sub("data"));

    public NodeProcess Node { get; }

    /// <summary>Skips the test when redis-server is not installed.</summary>
    public RedisProcess Redis
    {
        get
        {
            if (_redis.Value is null)
            {
                TestSkip.Because("redis-server missing: nothing to compare with");
            }

            return _redis.Value;
        }
    }

    /// <summary>A connection to the emptied node.</summary>
    public RespClient ConnectEmptied()
    {
        var client = Node.Connect();
        Assert.Equal("+OK", client.Text("FLUSHALL"));
        return client;
    }

    public void Dispose()
    {
        Node.Dispose();
        if (_redis.IsValueCreated)
        {
            _redis.Value?.Dispose();
        }

        _directory.Dispose();
    }
}
