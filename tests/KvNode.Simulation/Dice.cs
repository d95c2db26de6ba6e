using KvNode.Raft.Core;

namespace KvNode.Simulation;

/// <summary>Every choice of a run, from its seed.</summary>
internal sealed class Dice(ulong seed)
{
    private SeededRandom _random = new(seed);

    public ulong Number() => _random.Next();

    /// <summary>From 0 to below a bound.</summary>
    public int Next(int bound) => _random.Next(bound);

    /// <summary>Both ends are possible.</summary>
    public int Between(int least, int most) => least + _random.Next(most - least + 1);

    /// <summary>Both ends are possible.</summary>
    public long Between(long least, long most) => least + (long)(_random.Next() % (ulong)(most - least + 1));

    public bool Chance(double probability) => (_random.Next() >> 11) * (1.0 / (1UL << 53)) < probability;

    public double Fraction() => (_random.Next() >> 11) * (1.0 / (1UL << 53));

    public T Pick<T>(IReadOnlyList<T> from) => from[_random.Next(from.Count)];
}
