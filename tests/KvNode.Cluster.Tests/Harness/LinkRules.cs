using System.Collections.Concurrent;

namespace KvNode.Cluster.Tests.Harness;

/// <summary>What the network does to bytes that one node sends to another, whoever opened the connection.</summary>
internal sealed class Link
{
    private volatile bool _isCut;
    private volatile int _delayMilliseconds;
    private volatile int _bytesPerSecond;

    /// <summary>Nothing passes; what was sent waits, and passes when it is healed, as TCP would send it again.</summary>
    public bool IsCut
    {
        get => _isCut;
        set => _isCut = value;
    }

    /// <summary>Every byte arrives so much later.</summary>
    public int DelayMilliseconds
    {
        get => _delayMilliseconds;
        set => _delayMilliseconds = value;
    }

    /// <summary>0: as fast as it goes.</summary>
    public int BytesPerSecond
    {
        get => _bytesPerSecond;
        set => _bytesPerSecond = value;
    }

    public void Heal()
    {
        IsCut = false;
        DelayMilliseconds = 0;
        BytesPerSecond = 0;
    }
}

/// <summary>The links of a cluster, one for each ordered pair of nodes, however many there have been.</summary>
internal sealed class LinkRules
{
    private readonly ConcurrentDictionary<(int From, int To), Link> _links = [];

    public Link this[int from, int to] => _links.GetOrAdd((from, to), static _ => new Link());

    /// <summary>No byte passes between a node of one side and one of the other.</summary>
    public void Partition(int[] side, int[] other)
    {
        foreach (var one in side)
        {
            foreach (var two in other)
            {
                this[one, two].IsCut = true;
                this[two, one].IsCut = true;
            }
        }
    }

    /// <summary>Cuts one direction only: these nodes are heard by nobody among those, and hear them.</summary>
    public void Silence(int[] from, int[] to)
    {
        foreach (var one in from)
        {
            foreach (var two in to)
            {
                this[one, two].IsCut = true;
            }
        }
    }

    public void HealAll()
    {
        foreach (var link in _links.Values)
        {
            link.Heal();
        }
    }
}
