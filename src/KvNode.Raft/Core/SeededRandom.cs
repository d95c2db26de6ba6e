namespace KvNode.Raft.Core;

/// <summary>Numbers from a seed (SplitMix64, Steele, Lea and Flood 2014): the core's only randomness.</summary>
internal struct SeededRandom(ulong seed)
{
    private ulong _state = seed;

    public ulong Next()
    {
        _state += 0x9E3779B97F4A7C15;
        var mixed = _state;
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9;
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB;
        return mixed ^ (mixed >> 31);
    }

    /// <summary>From 0 to below a bound; as good as even for the small bounds used here.</summary>
    public int Next(int bound) => (int)(Next() % (ulong)bound);
}
